import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.report.verdict import Level, level, worst


@pytest.mark.parametrize(
    ("psnr", "rdlv", "reidentified", "expected"),
    [
        (35.0, 0.9, True, Level.VISIBLE),
        (35.0, None, None, Level.VISIBLE),
        (float("inf"), None, None, Level.VISIBLE),
        (20.0, 0.0, True, Level.VISIBLE),
        (22.0, 0.4, False, Level.TRACES),
        (19.0, 0.2, True, Level.IDENTIFIED),
        (19.0, 0.0, True, Level.TRACES),
        (12.0, None, True, Level.TRACES),
        (19.0, 0.05, False, Level.NOTHING),
        (8.0, -0.9, None, Level.NOTHING),
        (19.0, None, None, Level.UNKNOWN),
        (None, None, None, Level.UNKNOWN),
        (None, None, False, Level.UNKNOWN),
    ],
)
def test_levels(psnr, rdlv, reidentified, expected):
    assert level(psnr, rdlv, reidentified) is expected


@given(
    psnr=st.floats(0, 60), more=st.floats(0, 60), rdlv=st.floats(-1, 2), reidentified=st.booleans()
)
def test_a_closer_picture_is_never_judged_milder(psnr, more, rdlv, reidentified):
    assert level(psnr + more, rdlv, reidentified) >= level(psnr, rdlv, reidentified)
    assert level(psnr, rdlv, True) >= level(psnr, rdlv, False)
    assert level(psnr, rdlv + more, reidentified) >= level(psnr, rdlv, reidentified)


def test_worst():
    assert worst([Level.NOTHING, Level.VISIBLE, Level.TRACES]) is Level.VISIBLE
    assert worst([]) is Level.UNKNOWN
