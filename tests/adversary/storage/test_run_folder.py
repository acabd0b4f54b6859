import dataclasses
import json
import re
import resource

import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from adversary.common.results import AttackResult, Frame, IterationRecord, Reconstruction
from adversary.common.truth import Truth
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.report.pictures import draw
from adversary.scoring.image_scores import score_images
from adversary.scoring.scorer import Scorer
from adversary.storage.names import safe_name
from adversary.storage.run_folder import RunFolder, RunFolderError
from adversary.storage.schemas import ACCOUNTS, CLIENTS, LEAKAGE, MEMBERS, ROUNDS


def reconstruct(channels=1, count=2):
    generator = torch.Generator().manual_seed(channels)
    images = torch.rand(count, channels, 12, 12, generator=generator)
    truth = Truth(
        images=images, labels=torch.arange(count), names=tuple(f"p{i}.png" for i in range(count))
    )
    found = Reconstruction(
        images=(images + 0.01).clamp(0, 1).flip(0),
        labels=torch.arange(count).flip(0),
        score=0.1,
        seconds=1.5,
        evaluations=9,
        history=[IterationRecord(0, 0, 1 / 3, 0.1), IterationRecord(0, 1, 0.1, 0.2)],
    )
    return found, truth


def test_a_new_folder_is_private_and_empty(tmp_path):
    folder = RunFolder.create(tmp_path / "a" / "run", seed=7, settings={"rounds": 3})
    assert folder.path.stat().st_mode & 0o777 == 0o700
    info = RunFolder.open(folder.path).info()
    assert info["status"] == "running"
    assert info["seed"] == 7
    assert info["settings"] == {"rounds": 3}
    assert folder.leakage().columns.tolist() == list(LEAKAGE)
    assert folder.rounds().columns.tolist() == list(ROUNDS)


def test_columns_begin_as_the_documentation_says():
    assert ",".join(LEAKAGE) == (
        "round,client,attack,image,truth,mse,psnr,ssim,lpips,fft2d,rdlv,bound_psnr,"
        "expected_psnr,prior_psnr,null_psnr,null_rdlv,certificate,member,flags,"
        "reidentified,negative,rank,rank_chance,"
        "label_true,label_recovered,seconds,evaluations,score,status,note"
    )
    assert ",".join(ROUNDS) == (
        "round,loss,auc,epsilon,delta,seconds,client_loss,clients,clients_failed,"
        "lr,client_auc,auc_left_out"
    )
    assert ",".join(MEMBERS) == "round,client,attack,member,seconds,score,note"
    assert ",".join(CLIENTS) == "round,client,images,loss,accuracy,auc,auc_left_out"
    assert ",".join(ACCOUNTS) == (
        "round,client,rounds,epsilon,delta,neighbours,unit,accountant,against"
    )


def test_accounts_come_back_as_they_were_written(tmp_path):
    folder = RunFolder.create(tmp_path)
    assert folder.accounts().empty
    row = {
        "round": 2, "client": "client-00", "rounds": 1, "epsilon": 1 / 3, "delta": 1e-5,
        "neighbours": "add or remove one", "unit": "example", "accountant": "RDP (opacus)",
        "against": "everyone, the server included",
    }  # fmt: skip
    folder.add_account(**row)
    [found] = RunFolder.open(tmp_path).accounts().to_dict("records")
    assert found == row


def test_a_run_from_before_there_were_accounts_has_none(tmp_path):
    folder = RunFolder.create(tmp_path)
    (tmp_path / "accounts.csv").unlink()
    assert folder.accounts().empty
    assert folder.accounts().columns.tolist() == list(ACCOUNTS)


def test_an_update_without_images_is_noted_once(tmp_path):
    folder = RunFolder.create(tmp_path)
    for _ in range(2):
        folder.note_without_images(1, "client-00")
    folder.note_without_images(2, "client-00")
    noted = folder.info()["without_images"]
    assert [(one["round"], one["client"]) for one in noted] == [(1, "client-00"), (2, "client-00")]


def test_an_earlier_run_is_kept_unless_overwritten(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.add_round(round=1, loss=0.5)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "images").mkdir()
    with pytest.raises(RunFolderError, match="already holds a run") as caught:
        RunFolder.create(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert len(folder.rounds()) == 1
    assert RunFolder.create(tmp_path, overwrite=True).rounds().empty
    assert not (tmp_path / "images").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("below", ["", "run"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunFolderError, match="cannot be written: Not a directory") as caught:
        RunFolder.create(file / below)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_run_cannot_be_opened(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match="is not the folder of a run"):
        RunFolder.open(tmp_path)


def test_run_json_is_strict_json_whatever_it_is_given(tmp_path):
    folder = RunFolder.create(
        tmp_path, values=[float("nan"), float("inf")], data=tmp_path, name="\udcff", pair=(1, 2)
    )
    text = (tmp_path / "run.json").read_text()
    info = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert info["values"] == [None, "inf"]
    assert info["data"] == str(tmp_path)
    assert folder.info()["pair"] == [1, 2]


def test_finish_and_missing(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.note_missing(lpips="no weights")
    folder.note_missing(auc="one class")
    folder.finish("failed", "all clients failed")
    info = folder.info()
    assert info["missing"] == {"lpips": "no weights", "auc": "one class"}
    assert (info["status"], info["reason"]) == ("failed", "all clients failed")
    assert info["ended"] >= info["started"]
    assert info["seconds"] >= 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_reconstruction_leaves_rows_pictures_and_history(tmp_path, channels):
    folder = RunFolder.create(tmp_path)
    found, truth = reconstruct(channels)
    scores = score_images(found, truth, candidates=truth.images)
    folder.add_reconstruction(
        2, "client-01", "ing", found, scores, draw(found, scores, truth.images)
    )
    rows = folder.leakage()
    assert rows["image"].tolist() == [0, 1]
    assert rows["psnr"].tolist() == [one.psnr for one in scores]  # to the last digit
    assert rows["truth"].tolist() == ["p0.png", "p1.png"]
    assert rows["label_true"].tolist() == rows["label_recovered"].tolist() == ["0", "1"]
    assert rows["reidentified"].all()
    assert rows["lpips"].isna().all()
    assert (rows["status"] == "ok").all()
    place = tmp_path / "images" / "round-002" / "client-01" / "ing"
    assert sorted(file.name for file in place.iterdir()) == [
        "grid.png", "reconstruction-00.png", "reconstruction-01.png",
        "truth-00.png", "truth-01.png",
    ]  # fmt: skip
    assert place.stat().st_mode & 0o777 == 0o700
    history = (tmp_path / "history" / "round-002" / "client-01" / "ing.csv").read_text()
    assert history.splitlines()[:2] == [
        "restart,iteration,score,seconds",
        "0,0,0.3333333333333333,0.1",
    ]


def test_pictures_of_the_process_are_those_of_the_last_attack(tmp_path):
    folder = RunFolder.create(tmp_path)
    found, truth = reconstruct()
    scores = score_images(found, truth)
    for trials in (2, 1):
        frames = [Frame(trial, 0, 0.5, found.images) for trial in range(trials)]
        filmed = dataclasses.replace(found, frames=frames)
        folder.add_reconstruction(
            2, "client-01", "my.ing", filmed, scores, draw(filmed, scores, truth.images)
        )
    process = folder.process(2, "client-01", "my.ing")
    assert process == tmp_path / "history" / "round-002" / "client-01" / "my.ing"
    names = sorted(file.name for file in process.iterdir())
    assert names == [
        f"trial-00-image-0{image}{kind}"
        for image in range(2)
        for kind in ("-result.png", ".csv", ".png")
    ]
    assert process.stat().st_mode & 0o777 == 0o700
    folder.add_reconstruction(
        2, "client-01", "my.ing", found, scores, draw(found, scores, truth.images)
    )
    assert not process.exists()


def test_each_trial_has_a_row_an_image_beside_what_it_was_told(tmp_path):
    folder = RunFolder.create(tmp_path)
    found, truth = reconstruct()
    frames = [Frame(0, 0, 9.0, found.images), Frame(1, 0, 9.0, found.images),
              Frame(0, 4, 0.3, found.images.flip(0)), Frame(1, 4, 0.1, found.images)]  # fmt: skip
    told = {0: {"start": "zeros", "tv": 0.01, "lr": 0.1}, 1: {"start": "mean", "tv": 0.01}}
    found = dataclasses.replace(found, frames=frames, options=told)
    scored = Scorer(truth=lambda _: truth).score(None, AttackResult(
        attack="ing", seconds=1.0, reconstruction=found))  # fmt: skip
    folder.add_trials(2, "client-01", "ing", found, scored.trials)
    rows = folder.trials()
    assert rows[["trial", "image"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert rows["chosen"].tolist() == [False, False, True, True]
    assert rows["start"].tolist() == ["zeros", "zeros", "mean", "mean"]
    assert rows["options"].tolist() == ["tv=0.01, lr=0.1"] * 2 + ["tv=0.01"] * 2
    assert rows["iterations"].tolist() == [4] * 4
    assert rows["score"].tolist() == [0.3, 0.3, 0.1, 0.1]
    assert rows["psnr"].tolist() == [one.psnr for one in scored.scores] * 2
    folder.forget(2, "client-01", "ing")
    assert folder.trials().empty
    folder.add_trials(2, "client-01", "ing", found, {})  # without the truth
    assert folder.trials()["psnr"].isna().all()
    assert folder.trials()["score"].tolist() == [0.3, 0.3, 0.1, 0.1]


def test_a_run_from_before_a_table_there_is_can_be_attacked_again(tmp_path):
    folder = RunFolder.create(tmp_path)
    (tmp_path / "trials.csv").unlink()
    assert folder.trials().empty
    found, _ = reconstruct()
    found = dataclasses.replace(found, frames=[Frame(0, 1, 0.1, found.images)])
    folder.forget(1, "client-00", "ing")
    folder.add_trials(1, "client-00", "ing", found, {})
    folder.sort()
    assert len(folder.trials()) == 2


def test_without_truth_only_what_the_attacker_knows_is_written(tmp_path):
    folder = RunFolder.create(tmp_path)
    found, _ = reconstruct()
    folder.add_reconstruction(1, "client-00", "ing", found)
    rows = folder.leakage()
    assert rows["score"].tolist() == [0.1, 0.1]
    assert rows["label_recovered"].tolist() == ["1", "0"]
    empty = ["truth", "mse", "psnr", "ssim", "rdlv", "reidentified", "rank", "label_true"]
    assert rows[empty].isna().all(axis=None)
    assert not list(tmp_path.rglob("truth-*.png"))


def test_a_failure_has_a_row_and_a_reason(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.add_failure(1, "client-00", "dlg", "out of memory")
    assert folder.leakage()[["client", "status"]].values.tolist() == [["client-00", "failed"]]
    assert folder.info()["failures"] == [
        {"round": 1, "client": "client-00", "attack": "dlg", "reason": "out of memory"}
    ]


def test_what_was_sent_goes_with_the_last_update_of_its_round(tmp_path):
    folder = RunFolder.create(tmp_path)
    sent = {"w": torch.rand(2)}
    for round in (1, 2):
        for client in ("a", "b"):
            folder.record(
                Observation(
                    round=round,
                    client=client,
                    sent=sent,
                    returned={"w": torch.rand(2)},
                    num_examples=1,
                    recipe=TrainingRecipe(lr=0.1, batch_size=1),
                )
            )
    updates = folder.recorded_updates()
    assert [update.stem for update in updates] == ["a", "b", "a", "b"]
    assert len(list(tmp_path.glob("updates/round-*/sent/*"))) == 2  # one a round
    folder.forget_update(updates[0])
    assert torch.equal(Observation.load(updates[1]).sent["w"], sent["w"])
    folder.forget_update(updates[1])
    assert not updates[1].parent.exists()
    assert len(folder.recorded_updates()) == 2


def test_recorded_updates_are_found_again(tmp_path):
    folder = RunFolder.create(tmp_path)
    for round, client in ((2, "a"), (1, "b"), (1, "a")):
        path = folder.recorded_update(round, client)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [
        file.relative_to(tmp_path / "updates").as_posix() for file in folder.recorded_updates()
    ]
    assert found == [f"round-00{r}/{c}.safetensors" for r, c in ((1, "a"), (1, "b"), (2, "a"))]


@given(st.text(max_size=100))
@example("0" * 61)
@example("/" * 100)
def test_safe_names_are_single_path_components(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,69}", safe)
    assert safe_name(safe) == safe


def test_safe_names_do_not_collide():
    names = ["a/b", "a_b", "a b", "a\\b", "../a", ".a", "a", "", "..", "x" * 61, "x" * 62]
    assert len({safe_name(name) for name in names}) == len(names)
    assert safe_name("client-00") == "client-00"


@pytest.fixture
def small_files():
    """Make the system refuse in the middle of a write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path, small_files):
    folder = RunFolder.create(tmp_path)
    written = []

    def write():
        for number in range(1, 1000):
            folder.add_round(round=number, loss=1 / 3)
            written.append(number)

    with pytest.raises(RunFolderError, match=r"rounds\.csv cannot be written: File too large"):
        write()
    content = (tmp_path / "rounds.csv").read_text()
    assert small_files - 100 < len(content) <= small_files
    assert content.endswith("\n")
    rounds = RunFolder.open(tmp_path).rounds()
    assert rounds["round"].tolist() == written
    assert (rounds["loss"] == 1 / 3).all()


def test_a_full_disk_keeps_the_earlier_run_json(tmp_path, small_files):
    folder = RunFolder.create(tmp_path, seed=7)
    with pytest.raises(RunFolderError, match=r"run\.json cannot be written"):
        folder.update(settings="x" * 2 * small_files)
    assert folder.info()["seed"] == 7
    assert not list(tmp_path.glob(".*"))


def test_one_attack_on_one_update_is_forgotten(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    for client in ("a", "b"):
        folder.add_failure(1, client, "dlg", "out of memory")
        folder.add_failure(1, client, "ing", "out of memory")
    folder.forget(1, "a", "dlg")
    left = [("a", "ing"), ("b", "dlg"), ("b", "ing")]
    assert [(f["client"], f["attack"]) for f in folder.info()["failures"]] == left
    rows = folder.leakage()
    assert list(zip(rows["client"], rows["attack"], strict=True)) == left


@pytest.mark.parametrize(
    ("notes", "stopped", "written"),
    [
        ((), "iterations", None),
        (("a", "b"), "converged", "a; b"),
        ((), "seconds", "stopped at its limit of seconds"),
        (("a",), "evaluations", "a; stopped at its limit of evaluations"),
    ],
)
def test_an_attack_cut_short_says_so(tmp_path, notes, stopped, written):
    folder = RunFolder.create(tmp_path)
    found, _ = reconstruct()
    cut = dataclasses.replace(found, notes=notes, stopped=stopped)
    folder.add_reconstruction(1, "client-00", "ing", cut)
    assert [None if pd.isna(n) else n for n in folder.leakage()["note"]] == [written] * 2


def test_a_run_is_taken_back_to_the_end_of_a_round(tmp_path):
    folder = RunFolder.create(tmp_path, title="mine")
    for number in (1, 2, 3):
        folder.add_round(round=number, loss=1 / number)
        folder.add_clients([{"round": number, "client": "a", "auc": 0.5}])
        folder.add_account(round=number, client="a", epsilon=1.0)
        folder.add_failure(number, "a", "dlg", "no luck")
        folder.note_without_images(number, "b")
    folder.finish("failed", "the power went")
    whole = (tmp_path / "rounds.csv").read_bytes()
    (tmp_path / "rounds.csv").write_bytes(whole + b"4,0.2")  # killed while it wrote
    folder.rewind(2)
    assert (tmp_path / "rounds.csv").read_bytes() == b"".join(whole.splitlines(True)[:3])
    for frame in (folder.rounds(), folder.clients(), folder.accounts(), folder.leakage()):
        assert frame["round"].tolist() == [1, 2]
    info = folder.info()
    assert [one["round"] for one in info["failures"]] == [1, 2]
    assert [one["round"] for one in info["without_images"]] == [1, 2]
    assert (info["status"], info["title"], info["resumed"][0]["after_round"]) == (
        "running", "mine", 2
    )  # fmt: skip
    assert not info.keys() & {"ended", "seconds", "reason"}
    folder.rewind(0)
    assert folder.rounds().empty
    assert len(folder.info()["resumed"]) == 2


def test_updates_that_no_attack_got_to_are_found(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    names = ["client-00", "north/west", "empty", "broken"]
    found, *_ = reconstruct()
    for round in (1, 2):
        for client in names:
            path = folder.recorded_update(round, client)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    folder.add_failure(1, "client-00", "dlg", "out of memory")
    folder.add_reconstruction(1, "client-00", "ing", found)
    folder.add_reconstruction(1, "north/west", "ing", found)
    folder.note_without_images(1, "empty")
    folder.add_failure(1, "broken", "-", "not attacked")
    missing = folder.unattacked(["dlg", "ing"])
    assert missing.pop(folder.recorded_update(1, "north/west")) == ("dlg",)
    assert set(missing) == {folder.recorded_update(2, client) for client in names}
    assert set(missing.values()) == {("dlg", "ing")}
    folder.rewind(1)  # round 2 will be done again
    assert list(folder.unattacked(["ing"])) == []
    assert len(folder.recorded_updates()) == 4
