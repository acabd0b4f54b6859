import dataclasses

import pytest
import torch

from adversary.common.results import Reconstruction, Trial
from adversary.report import run_page
from adversary.report.members import shares
from adversary.report.references import CITATIONS, cited_methods, named
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import MEMBERS

TRIALS = (
    Trial(member="mean", seconds=0.5, score=2.0, note="the prior's mean"),
    Trial(member="recursive", seconds=1.5, note="no linear layer; =SUM(1)"),
    Trial(member="gauss-newton", seconds=8.0, score=1.0),
)


def found(member="gauss-newton", trials=TRIALS):
    return Reconstruction(
        images=torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)),
        labels=torch.tensor([0, 1]), score=1.0, seconds=10.0, evaluations=3, member=member,
        trials=trials, certificate="proved", expected_psnr=(52.5, 40.0), flags=("misfit",),
    )  # fmt: skip


def names(folder):
    rows = folder.members()
    return list(zip(rows["round"], rows["client"], rows["member"], strict=True))


def test_members_are_written_with_what_they_cost(tmp_path):
    folder = RunFolder.create(tmp_path)
    assert folder.members().empty
    folder.add_reconstruction(1, "a", "standard", found())
    folder.add_reconstruction(1, "a", "dlg", found(member="", trials=()))
    rows = RunFolder.open(tmp_path).members()
    assert rows.columns.tolist() == list(MEMBERS)
    assert rows["member"].tolist() == ["mean", "recursive", "gauss-newton"]
    assert rows["seconds"].tolist() == [0.5, 1.5, 8.0]
    assert rows["score"].isna().tolist() == [False, True, False]
    assert rows["note"][1] == "no linear layer; =SUM(1)"
    leakage = folder.leakage()
    assert leakage["member"].fillna("").tolist() == ["gauss-newton"] * 2 + [""] * 2
    assert leakage["expected_psnr"].tolist() == [52.5, 40.0] * 2
    assert set(leakage["certificate"]) == {"proved"}
    assert set(leakage["flags"]) == {"misfit"}


def test_an_attack_cut_off_is_written_as_open(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.add_reconstruction(1, "a", "standard", dataclasses.replace(found(), stopped="seconds"))
    leakage = folder.leakage()
    assert set(leakage["certificate"]) == {"open"}
    assert set(leakage["flags"]) == {"misfit;time-limit"}


def test_members_are_sorted_forgotten_and_taken_back_with_their_attacks(tmp_path):
    folder = RunFolder.create(tmp_path)
    two = found(trials=(TRIALS[2], TRIALS[0]))
    for round, client in ((2, "a"), (1, "b"), (1, "a")):
        folder.add_reconstruction(round, client, "standard", two)
    folder.sort()
    assert names(folder) == [
        (round, client, member)
        for round, client in ((1, "a"), (1, "b"), (2, "a"))
        for member in ("gauss-newton", "mean")  # in the order in which they ran
    ]
    folder.forget(1, "a", "standard")
    folder.forget(1, "b", "dlg")
    assert [one[:2] for one in names(folder)] == [(1, "b"), (1, "b"), (2, "a"), (2, "a")]
    folder.rewind(1)
    assert [one[:2] for one in names(folder)] == [(1, "b"), (1, "b")]
    RunFolder.create(tmp_path, overwrite=True)
    assert names(folder) == []


def test_a_run_from_before_there_were_members_has_none(tmp_path):
    folder = RunFolder.create(tmp_path)
    (tmp_path / "members.csv").unlink()
    assert folder.members().empty
    run_page.render(folder)


def test_members_are_summed_up_over_updates(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.add_reconstruction(1, "a", "standard", found())
    folder.add_reconstruction(1, "b", "standard", found(member="mean", trials=TRIALS[:2]))
    folder.add_reconstruction(2, "a", "standard", found(trials=(*TRIALS, TRIALS[2])))
    mean, recursive, newton = shares(folder.members(), folder.leakage())
    assert [one.member for one in (mean, recursive, newton)] == [
        "mean",
        "recursive",
        "gauss-newton",
    ]
    assert [(one.ran, one.won, one.failed) for one in (mean, recursive, newton)] == [
        (3, 1, 0), (3, 0, 3), (2, 2, 0)
    ]  # fmt: skip
    assert [one.seconds for one in (mean, recursive, newton)] == [1.5, 4.5, 24.0]
    assert newton.share == pytest.approx(24 / 30)


def test_the_report_shows_members_and_cites_those_that_are_attacks(folder, check):
    folder.add_reconstruction(1, "client-00", "standard", found())
    page = check(run_page.render(folder))
    section = page.text.partition("Members of the ensemble")[2].partition("Failures and")[0]
    for text in ("mean", "recursive", "gauss-newton", "8.0", "80%"):
        assert text in section, text
    [newton] = cited_methods(["gauss-newton"])
    assert f"{newton.title} ({newton.reference})" in page.text
    assert any("Croce and Hein" in source for source in CITATIONS)
    assert [one.name for one in named(["mean", "gauss-newton"])] == ["gauss-newton"]


def test_notes_of_members_stay_out_of_the_page(folder, check):
    trials = (Trial(member="m", seconds=1.0, note="/data/Miller.dcm is odd"),)
    folder.add_reconstruction(1, "client-00", "standard", found(trials=trials))
    folder.update(sensitive=True)
    assert "Miller" not in check(run_page.render(folder)).text
