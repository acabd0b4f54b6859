import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adversary.common.results import Reconstruction
from adversary.scoring.verdict import (
    CHANCE_MARGIN,
    CLOSE_PSNR,
    NULL_MARGIN,
    Evidence,
    Severity,
    certificate_of,
    flags_of,
    severity_of,
    with_names,
    worst_of,
)

BEYOND = {"psnr": 19.0, "rdlv": 0.2}
"""A picture that shows more than the mean public X-ray."""

FIRST = {"psnr": 22.0, "reidentified": True}
"""A picture that comes first among the candidates and is no copy."""


@pytest.mark.parametrize(
    ("psnr", "rdlv", "reidentified", "expected"),
    [
        (35.0, 0.9, True, Severity.VISIBLE),
        (35.0, None, None, Severity.VISIBLE),
        (30.0, None, None, Severity.VISIBLE),
        (29.99, 0.9, False, Severity.TRACES),
        (float("inf"), None, None, Severity.VISIBLE),
        (20.0, 0.0, True, Severity.VISIBLE),
        (19.99, 0.0, True, Severity.TRACES),
        (22.0, 0.4, False, Severity.TRACES),
        (19.0, 0.2, True, Severity.IDENTIFIABLE),
        (19.0, 0.0, True, Severity.TRACES),
        (12.0, None, True, Severity.TRACES),
        (19.0, 0.05, False, Severity.OPEN),
        (8.0, -0.9, None, Severity.OPEN),
        (19.0, None, None, Severity.UNKNOWN),
        (None, None, None, Severity.UNKNOWN),
        (None, None, False, Severity.UNKNOWN),
    ],
)
def test_levels_of_an_attack_alone(psnr, rdlv, reidentified, expected):
    assert severity_of(Evidence(psnr=psnr, rdlv=rdlv, reidentified=reidentified)) is expected


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        # A failed attack beside a high bound is open, whatever it lacks.
        (Evidence(psnr=7.3, rdlv=-0.8, reidentified=False, prior_psnr=18, bound_psnr=30.7), "open"),
        (
            Evidence(psnr=18, rdlv=0.0, reidentified=False, prior_psnr=18, bound_psnr=19),
            "protected",
        ),
        (Evidence(psnr=18, rdlv=0.0, reidentified=False, prior_psnr=18, bound_psnr=19.1), "open"),
        (Evidence(psnr=18, rdlv=0.0, reidentified=False, bound_psnr=5), "open"),  # beside what?
        # A bound wins over the certificate, and luck over neither.
        (Evidence(psnr=9, rdlv=0.0, certificate="nothing"), "protected"),
        (Evidence(psnr=9, rdlv=0.0, certificate="open"), "open"),
        (
            Evidence(psnr=9, rdlv=0.0, prior_psnr=18, bound_psnr=20, certificate="nothing"),
            "protected",
        ),
        (Evidence(psnr=9, rdlv=0.0, prior_psnr=18, bound_psnr=20.1, certificate="nothing"), "open"),
        (Evidence(**BEYOND, reidentified=True, prior_psnr=18, bound_psnr=18.5), "protected"),
        # A privacy guarantee settles what no bound is had of, if it is strong enough.
        (Evidence(psnr=9, rdlv=0.0, prior_psnr=18, bound_psnr=60, ceiling=0.03), "protected"),
        (Evidence(psnr=9, rdlv=0.0, prior_psnr=18, bound_psnr=60, ceiling=0.031), "open"),
        (Evidence(psnr=None, ceiling=0.02), "protected"),
        (Evidence(psnr=31, ceiling=0.02), "visible"),
        # What can be seen is seen.
        (Evidence(psnr=31, prior_psnr=31, bound_psnr=31), "visible"),
        (Evidence(psnr=31, certificate="nothing"), "visible"),
        # The negative of the patient; the null takes what strangers would have shown as well.
        (Evidence(psnr=7.3, rdlv=-0.8, reidentified=False, negative=True), "identifiable"),
        (Evidence(**BEYOND, reidentified=False, null_psnr=18.5), "open"),
        (Evidence(**BEYOND, reidentified=False, null_psnr=17.9), "traces"),
        (Evidence(**BEYOND, reidentified=True, null_psnr=18.5), "traces"),
        # One of 283 pictures comes first among 400 by chance, and looks like any mean X-ray.
        (Evidence(psnr=22, rdlv=0.0, reidentified=True, rank_chance=0.5, prior_psnr=22), "open"),
        (Evidence(psnr=22, rdlv=0.0, reidentified=True, rank_chance=0.01, prior_psnr=22), "traces"),
        (Evidence(psnr=22, rdlv=0.2, reidentified=True, rank_chance=0.5, prior_psnr=18), "traces"),
        (
            Evidence(psnr=22, rdlv=0.2, reidentified=True, rank_chance=0.01, prior_psnr=18),
            "visible",
        ),
    ],
)
def test_levels_between_an_attack_and_what_limits_it(evidence, expected):
    assert severity_of(evidence).slug == expected


def test_beyond_the_null_is_by_more_than_the_margin():
    assert not Evidence(psnr=18 + NULL_MARGIN, null_psnr=18.0).beyond_null
    assert Evidence(psnr=18.01 + NULL_MARGIN, null_psnr=18.0).beyond_null
    assert Evidence(psnr=None, null_psnr=18.0).beyond_null
    assert Evidence(psnr=1.0).beyond_null


DB = st.floats(0, 60)
EVIDENCE = st.builds(
    Evidence,
    psnr=DB,
    rdlv=st.none() | st.floats(-1, 2),
    reidentified=st.none() | st.booleans(),
    negative=st.none() | st.booleans(),
    prior_psnr=st.none() | st.floats(5, 25),
    null_psnr=st.none() | st.floats(5, 25),
    bound_psnr=st.none() | st.floats(5, 160),
    certificate=st.sampled_from([None, "proved", "open", "nothing"]),
)


@given(evidence=EVIDENCE, more=DB)
def test_a_closer_picture_is_never_judged_milder(evidence, more):
    def with_(**changes):
        return severity_of(dataclasses.replace(evidence, **changes))

    assert with_(psnr=evidence.psnr + more) >= severity_of(evidence)
    if evidence.rdlv is not None:
        assert with_(rdlv=evidence.rdlv + more) >= severity_of(evidence)
    assert with_(reidentified=True) >= with_(reidentified=False)
    assert with_(negative=True) >= with_(negative=False)
    if evidence.null_psnr is not None:
        assert with_(null_psnr=evidence.null_psnr - more) >= severity_of(evidence)


@given(evidence=EVIDENCE, bound=st.floats(5, 160), more=DB)
def test_a_higher_bound_is_never_greener(evidence, bound, more):
    low, high = (
        severity_of(dataclasses.replace(evidence, bound_psnr=value))
        for value in (bound, bound + more)
    )
    assert high is low or low is Severity.PROTECTED


@given(evidence=EVIDENCE)
def test_only_what_limits_everybody_protects(evidence):
    if severity_of(evidence) is not Severity.PROTECTED:
        return
    if evidence.bound_psnr is None:
        assert evidence.certificate == "nothing"
    elif evidence.certificate == "nothing":  # an average over patients, whose means differ
        assert (
            evidence.bound_psnr <= CLOSE_PSNR
            or evidence.bound_psnr <= evidence.prior_psnr + CHANCE_MARGIN
        )
    elif not (evidence.certificate == "nothing" and evidence.bound_psnr <= CLOSE_PSNR):
        # Where both say so, one is an average over patients whose own means differ.
        assert evidence.bound_psnr <= evidence.prior_psnr + CHANCE_MARGIN
    assert not (evidence.bound_psnr or 0) > 20 or evidence.prior_psnr > 19


@given(evidence=EVIDENCE)
def test_without_a_limit_nothing_an_attack_does_protects(evidence):
    alone = dataclasses.replace(evidence, bound_psnr=None, certificate="open")
    assert severity_of(alone) is not Severity.PROTECTED


def test_evidence_is_picked_from_figures():
    assert Evidence.of({"psnr": 1.0, "ssim": 0.5}) == Evidence(psnr=1.0)


def test_worst():
    assert worst_of([Severity.OPEN, Severity.VISIBLE, Severity.TRACES]) is Severity.VISIBLE
    assert worst_of([Severity.PROTECTED, Severity.OPEN]) is Severity.OPEN
    assert worst_of([]) is Severity.UNKNOWN


def test_what_was_not_measured_is_not_protected_by_what_was():
    assert worst_of([Severity.PROTECTED, Severity.UNKNOWN]) is Severity.OPEN
    assert worst_of([Severity.PROTECTED, Severity.PROTECTED]) is Severity.PROTECTED
    assert worst_of([Severity.VISIBLE, Severity.UNKNOWN]) is Severity.VISIBLE


def test_only_protected_and_visible_are_settled():
    assert [one.slug for one in Severity if one.settled] == ["protected", "visible"]


@pytest.mark.parametrize(
    ("stopped", "certificate", "stated", "flags"),
    [
        ("converged", "proved", "proved", ("misfit",)),
        ("seconds", "proved", "open", ("misfit", "time-limit")),
        ("evaluations", "nothing", "open", ("misfit", "time-limit")),
        ("seconds", None, None, ("misfit", "time-limit")),
    ],
)
def test_an_attack_that_a_limit_cut_off_certifies_nothing(stopped, certificate, stated, flags):
    found = Reconstruction(
        images=torch.zeros(1, 1, 2, 2), labels=torch.zeros(1), score=0.0, seconds=1.0,
        evaluations=1, stopped=stopped, certificate=certificate, flags=("misfit",),
    )  # fmt: skip
    assert certificate_of(found) == stated
    assert flags_of(found) == flags


@pytest.mark.parametrize("level", list(Severity))
def test_patients_who_can_be_named_are_never_green(level):
    assert with_names(level, 1e-6) >= Severity.IDENTIFIABLE
    assert with_names(level, 1e-6) >= level
    assert with_names(level, 0.2) is level
