from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from adversary.identification import IdentificationResult
from adversary.identification.null import Scores
from adversary.scoring.identification_scores import CandidateScores, ScoredIdentification
from adversary.storage.run_folder import RunFolder

NULL = torch.linspace(-1.7, 1.7, 30, dtype=torch.float64)
CLAIM = (1.0, 1e-5)


def result(seed=0, members=(True, False, False, True)):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, generator=draw, dtype=torch.float64) + 5 * torch.tensor(members)
    said = Scores(
        values=scores, expected=torch.full((4,), 5.0).double(), null=NULL, null_expected=NULL + 5
    )
    scored = CandidateScores(
        gallery="g", scores=said, patients=(0, 1, 2, 3), members=members, rate=0.5, seconds=1.0,
        names=("ann.png", "bob.png", "cid.png", "dot.png"),
        flags=("sketched",),
    )  # fmt: skip
    outcome = IdentificationResult(seconds=1.0)
    return ScoredIdentification(outcome=outcome, scored=scored)


def failed(why="why"):
    return ScoredIdentification(outcome=IdentificationResult(seconds=2.0, failure=why))


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run")


def test_rows_come_back_in_order_with_accounts_and_joined_rounds(folder):
    files = folder.identified
    for round, client in ((2, "b/c"), (1, "b/c"), (1, "a")):
        files.add(round, client, result(round), named=True)
    files.add(2, "a", failed(), named=True)
    files.finish(lambda round, client: CLAIM if client == "a" else None, named=True)
    rows = folder.identification()
    where = rows[["round", "client"]].astype(object).where(rows.notna(), None).values.tolist()
    assert where == [[1, "a"], [1, "b/c"], [2, "a"], [2, "b/c"], [None, "b/c"]]
    assert rows["epsilon"].notna().tolist() == [True, False, False, False, False]
    assert rows["note"].astype(object).where(rows["note"].notna(), None).tolist() == [
        None, None, "why", None, None
    ]  # fmt: skip
    assert rows["auc"].dropna().tolist() == [1.0] * 4
    told = pd.read_csv(folder.path / "candidates.csv")
    assert len(told) == 4 * 4
    assert set(told["candidate"]) == {"ann.png", "bob.png", "cid.png", "dot.png"}
    before = (folder.path / "identification.csv").read_text()
    files.finish(lambda round, client: CLAIM if client == "a" else None, named=True)
    assert (folder.path / "identification.csv").read_text() == before


def test_galleries_that_differ_are_not_joined(folder):
    folder.identified.add(1, "a", result(), named=True)
    file = folder.path / "identification" / "round-001" / "a.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"gallery": "another"}))
    folder.identified.add(2, "a", result(), named=True)
    assert list(folder.identified.joined()) == []


def test_no_name_is_kept_where_none_may_be(folder):
    folder.identified.add(1, "a", result(), named=False)
    folder.identified.add(2, "a", result(), named=False)
    folder.identified.finish(lambda *_: None, named=False)
    assert not (folder.path / "candidates.csv").exists()
    texts = [f.read_text() for f in folder.path.rglob("*") if f.is_file()]
    assert not any("ann.png" in text for text in texts)
    assert len(folder.identification()) == 3


def test_a_run_goes_on_before_later_rounds_and_without_joined_ones(folder):
    for round in (1, 2, 3):
        folder.identified.add(round, "a", result(round), named=True)
    folder.identified.finish(lambda *_: None, named=True)
    folder.rewind(2)
    assert folder.identification()["round"].tolist() == [1, 2]
    assert [round for round, _, _ in folder.identified.scores()] == [1, 2]
    assert set(pd.read_csv(folder.path / "candidates.csv")["round"]) == {1, 2}


def test_an_update_can_be_asked_again(folder):
    folder.identified.add(1, "a", result(), named=True)
    folder.identified.add(1, "b", failed(), named=True)
    assert folder.identified.done() == {("round-001", "a"), ("round-001", "b")}
    folder.forget(1, "a", "identification")
    folder.forget(1, "b", "identification")
    assert folder.identified.done() == set()
    assert list(folder.identified.scores()) == []
    folder.identified.finish(lambda *_: None, named=True)
    assert len(folder.identification()) == 0
