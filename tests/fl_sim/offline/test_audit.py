"""Two checkpoints in, reconstructions and scores out; and every mistake is a line."""

import dataclasses
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adversary.observation.channel import Channel
from adversary.observation.recipe import TrainingRecipe
from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.data import DataError
from fl_sim.defences import create as create_defence
from fl_sim.engines.in_process import run_in_process
from fl_sim.models import checkpoints, create
from fl_sim.models.freezing import freeze
from fl_sim.offline.audit import (
    AuditFailedError,
    AuditOptions,
    audit,
    parse_indices,
    parse_normalisation,
    prepare,
)
from fl_sim.offline.checkpoint_pair import AuditError, AuditWarning
from fl_sim.offline.reattack import ReattackError, reattack
from fl_sim.settings.rules import SettingsError
from fl_sim.training.local_training import train

SIZE = 16
BASE = {"model.name": "lenet", "local.lr": 0.1, "data.image-size": SIZE, "adversary.bounds": "off"}
FAST = {
    "adversary.attack": "ing",
    "adversary.options": "ing.iterations=3",
    "adversary.restarts": 2,
    "device": "cpu",
}


def build(name="lenet", **options):
    return create(name, **{"channels": 1, "image_size": SIZE, "outputs": 2, "seed": 5, **options})


@pytest.fixture
def xrays(tmp_path):
    """A client's folder: six noise images of four patients and two classes, and its CSV file."""
    folder = tmp_path / "xrays"
    folder.mkdir()
    rows = ["path,label,patient_id"]
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{i % 2},p{i // 2 if i < 4 else i}")
    (folder / "client.csv").write_text("\n".join(rows))
    return folder / "client.csv"


def pixels(csv, indices):
    found = [np.asarray(Image.open(csv.parent / f"{i}.png")) for i in indices]
    return torch.from_numpy(np.stack(found))[:, None].float() / 255


@pytest.fixture
def client(tmp_path, xrays):
    """Train on chosen images; return the two files."""

    def trained(indices, *, batch=None, suffix=".safetensors", frozen="none", **options):
        model = freeze(build(**options), frozen)
        labels = torch.tensor(indices) % 2
        recipe = TrainingRecipe(lr=0.1, batch_size=batch or len(indices), batch_norm="train")
        paths = [tmp_path / f"{which}{suffix}" for which in ("init", "trained")]
        order = torch.arange(len(indices)).split(recipe.batch_size)
        for path, batches in zip(paths, ([], order), strict=True):
            if batches:
                train(model, pixels(xrays, indices), labels, recipe, batches, device="cpu")
            if suffix == ".safetensors":
                checkpoints.write(path, model)
            else:
                torch.save({"epoch": 1, "state_dict": model.state_dict()}, path)
        return [str(path) for path in paths]

    return trained


def test_a_client_of_a_plain_checkpoint_is_seen_and_scored(client, xrays, tmp_path):
    init, trained = client([4])
    options = {"data.name": "folder", "data.path": str(xrays), "adversary.attack": "dlg"}
    report = audit(
        init,
        trained,
        {
            **BASE,
            **options,
            "adversary.attack": "dlg",
            "adversary.options": "dlg.iterations=100",
            "out": str(tmp_path / "o"),
        },
        AuditOptions(indices=[4]),
    )
    folder = RunFolder.open(report.parent)
    (row,) = folder.leakage().to_dict("records")
    assert row["psnr"] > 35
    assert row["rank"] == 1
    assert (row["truth"], row["label_true"], row["label_recovered"]) == ("4.png", "0", "0")
    assert (row["round"], row["client"], row["status"]) == (1, "client", "ok")
    with pytest.raises(ReattackError, match="is an audit: fl-sim audit --overwrite"):
        reattack(folder.path)
    info = folder.info()
    assert info["status"] == "completed"
    assert info["candidates"] == 4  # its own, p0, p1 and p5
    assert info["settings"]["model.name"] == "lenet"
    page = report.read_text()
    assert "4.png" in page
    assert "history/round-001/client/dlg/" in page
    assert "The attacker has a model before and after training" in page
    assert "What one client made of the model" in page
    assert [f.name for f in sorted((report.parent / "images/round-001/client/dlg").iterdir())] == [
        "grid.png", "reconstruction-00.png", "truth-00.png"
    ]  # fmt: skip


def test_without_images_there_are_reconstructions_and_the_attackers_own_score(client, tmp_path):
    init, trained = client([0, 1], suffix=".pth.tar")
    changes = {**BASE, **FAST, "local.batch-size": 2, "out": str(tmp_path / "o")}
    report = audit(init, trained, {**changes, "adversary.frames": 3})
    leakage = RunFolder.open(report.parent).leakage()
    assert len(leakage) == 2
    assert leakage["psnr"].isna().all()
    assert leakage["score"].notna().all()
    assert "Not known from here: this run has no true images" in report.read_text()
    process = tmp_path / "o/history/round-001/client/ing"
    assert sorted(f.name for f in process.iterdir()) == [
        f"trial-{t:02d}-image-{i:02d}{kind}"
        for t in range(2)
        for i in range(2)
        for kind in ("-result.png", ".csv", ".png")
    ]


def test_a_run_tells_its_settings_and_its_clients(quick, tmp_path):
    settings = quick(
        rounds=2, checkpoints=True, adversary__enabled=False, local__lr=0.3, data__num_images=16
    )
    run_in_process(settings)
    first = prepare(settings.out, settings.out)
    assert first.settings.local.lr == 0.3
    assert first.settings.model == settings.model
    seen = first.observation
    assert (seen.round, seen.client, seen.view, seen.images) == (1, "mean", "aggregate", 6)
    assert sum(seen.members.values()) == seen.num_examples
    # What a defence does to one update says nothing of their mean.
    noisy = dataclasses.replace(first, defence=create_defence("gaussian-noise"))
    assert noisy.threat().channel == Channel()
    own = dataclasses.replace(seen, view="client", members={})
    assert dataclasses.replace(noisy, observation=own).threat().channel.noise
    second = prepare(f"{settings.out}@1", f"{settings.out}@2", {"local.lr": 0.2})
    assert second.observation.round == 2
    assert second.settings.local.lr == 0.2
    name = "body.0.weight"
    assert torch.equal(second.observation.sent[name], seen.returned[name])
    # The arrays are the same as files, but they tell no settings.
    folder = Path(settings.out) / "checkpoints"
    files = [str(folder / f"round-00{i}.safetensors") for i in (0, 1)]
    with pytest.raises(AuditError, match=r"--model: which architecture[\s\S]*\n--lr: with which"):
        prepare(*files)
    with pytest.raises(AuditError, match=r"--trained .*@2: is the model of round 2, and --init"):
        prepare(settings.out, f"{settings.out}@2")
    with pytest.raises(AuditError, match=r"--trained .*@3: .*holds no model of round 3"):
        prepare(f"{settings.out}@2", f"{settings.out}@3")
    with pytest.raises(AuditError, match="after the @ belongs a round, a whole number"):
        prepare(f"{settings.out}@last", settings.out)


def test_several_steps_are_read_as_such(client, xrays):
    files = client([0, 1, 4, 5], batch=2)
    images = {"data.name": "folder", "data.path": str(xrays)}
    whose = AuditOptions(indices=[0, 1, 4, 5])
    posed = prepare(*files, {**BASE, **images, "local.max-steps": 2}, whose)
    assert posed.observation.steps == 2
    assert posed.observation.recipe.batch_size == 2
    assert posed.truth().names == ("0.png", "1.png", "4.png", "5.png")
    assert torch.allclose(posed.truth().images, pixels(xrays, [0, 1, 4, 5]))
    one = prepare(*files, {**BASE, **images}, whose)
    assert (one.observation.steps, one.observation.recipe.batch_size) == (1, 4)
    alone = prepare(*files, {**BASE, "local.max-steps": 3, "local.batch-size": 2})
    assert (alone.observation.steps, alone.observation.images) == (3, 6)
    mean = prepare(*files, {**BASE, **images, "clients": 2}, whose)
    assert mean.observation.members == {"client-00": 2, "client-01": 2}
    assert mean.observation.images == 4


def test_the_arrays_tell_what_was_frozen(client):
    files = client([0, 1], frozen="all-but-last")
    posed = prepare(*files, {**BASE, "local.batch-size": 2})
    assert posed.settings.local.freeze == "all-but-last"
    assert set(posed.observation.returned) == {"head.weight", "head.bias"}
    with pytest.raises(AuditError, match=r"local.freeze = 'middle': body.* did change"):
        prepare(*client([0, 1]), {**BASE, "local.batch-size": 2, "local.freeze": "middle"})


def test_batch_norm_counts_that_tell_another_training_are_told(client):
    options = {"name": "resnet18", "image_size": 32}
    given = {**BASE, "model.name": "resnet18", "local.batch-size": 2}
    files = client([0, 1, 4, 5], batch=2, **options)
    with pytest.warns(AuditWarning, match="count 2 batches in training mode .* say 1"):
        prepare(*files, given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(*files, {**given, "local.max-steps": 2})


def test_one_logit_means_binary_cross_entropy(tmp_path, xrays):
    model = build(outputs=1)
    for name in ("a", "b"):
        checkpoints.write(tmp_path / f"{name}.safetensors", model)
        with torch.no_grad():
            model.head.weight.add_(0.1)
    files = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    with pytest.warns(AuditWarning, match="9 of 10 arrays"):
        posed = prepare(*files, BASE)
    assert posed.settings.model.loss == "bce"
    with pytest.raises(AuditError, match="has one output; must be bce"):
        prepare(*files, {**BASE, "model.loss": "cross-entropy"})


def test_labels_that_a_client_has_only_one_of_keep_their_number(client, xrays):
    files = client([1, 3])
    images = {"data.name": "folder", "data.path": str(xrays)}
    xrays.write_text("path,label\n1.png,1\n3.png,1\n")
    assert prepare(*files, {**BASE, **images}).truth().labels.tolist() == [1, 1]
    xrays.write_text("path,label\n1.png,2\n3.png,1\n")
    with pytest.raises(
        DataError, match="label 2; the model tells 2 classes, so allowed are 0 to 1"
    ):
        prepare(*files, {**BASE, **images})
    xrays.write_text("path,label\n1.png,sick\n3.png,sick\n")
    with pytest.raises(DataError, match="names 1 labels, and the model tells 2"):
        prepare(*files, {**BASE, **images})
    xrays.write_text("path,a,b,c\n1.png,0,1,0\n3.png,1,1,0\n")
    with pytest.raises(ValueError, match="has several labels an image; must be bce"):
        prepare(*files, {**BASE, **images})
    with pytest.raises(DataError, match="has 3 labels an image, and the model 2 outputs"):
        prepare(*files, {**BASE, **images, "model.loss": "bce"})


def test_public_rows_are_the_attackers_and_never_the_clients(client, xrays):
    files = client([0, 1])
    xrays.write_text(
        "path,label,split\n0.png,0,private\n1.png,1,private\n2.png,0,public\n3.png,1,test\n"
    )
    images = {"data.name": "folder", "data.path": str(xrays)}
    posed = prepare(*files, {**BASE, **images})
    assert posed.truth().names == ("0.png", "1.png")
    assert torch.allclose(posed.prior.images, pixels(xrays, [2]))
    with pytest.raises(ValueError, match="--indices 2: '2.png' is a public image"):
        prepare(*files, {**BASE, **images}, AuditOptions(indices=[0, 2]))


def test_images_may_be_of_any_data_set_and_colour_is_told_by_the_stem(tmp_path):
    model = build(channels=3)
    for name in ("a", "b"):
        checkpoints.write(tmp_path / f"{name}.safetensors", model)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.01)
    files = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    posed = prepare(*files, {**BASE, "data.name": "embedded"}, AuditOptions(indices=[1, 0]))
    assert posed.truth().images.shape == (2, 3, SIZE, SIZE)
    assert posed.prior.images.shape == (4, 3, SIZE, SIZE)
    assert posed.images.candidates.shape == (11, 3, SIZE, SIZE)  # patients
    assert torch.equal(posed.images.candidates[:2], posed.truth().images)


def test_an_audit_that_is_stopped_says_so(client, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("adversary.attacks.adversary.Adversary.run_attacks", stopped)
    with pytest.raises(KeyboardInterrupt):
        audit(*client([0]), {**BASE, "out": str(tmp_path / "o")})
    assert RunFolder.open(tmp_path / "o").info()["status"] == "stopped"
    assert "This run was stopped" in (tmp_path / "o/report.html").read_text()


def test_normalisation_is_as_told(client):
    posed = prepare(*client([0]), BASE, AuditOptions(normalise=(0.4, 0.2)))
    assert (posed.model.mean, posed.model.std) == (0.4, 0.2)


def test_known_labels_are_an_oracle_that_is_told(client, xrays, tmp_path):
    files = client([0, 1])
    images = {
        "data.name": "folder",
        "data.path": str(xrays),
        "adversary.labels-known": True,
    }
    report = audit(
        *files,
        {**BASE, **FAST, **images, "adversary.frames": 0, "out": str(tmp_path / "o")},
        AuditOptions(indices=[0, 1]),
    )
    assert RunFolder.open(report.parent).info()["oracles"] == ["labels known"]
    assert not (tmp_path / "o/history/round-001/client/ing").exists()
    with pytest.raises(AuditError, match="adversary.labels-known = True: needs the images"):
        prepare(*files, {**BASE, "adversary.labels-known": True, "local.batch-size": 2})


@pytest.mark.filterwarnings("ignore:.* did not change:fl_sim.offline.checkpoint_pair.AuditWarning")
def test_attacks_that_fail_fail_the_audit_and_are_written_down(client, tmp_path):
    changes = {**BASE, "adversary.attack": "ing", "adversary.options": "ing.iterations=2"}
    files = client([0])
    state = checkpoints.read(Path(files[0]))
    state["head.weight"] += 1e38
    save_file(state, files[1])
    with pytest.raises(AuditFailedError, match="ing: no restart reached a finite score"):
        audit(*files, {**changes, "out": str(tmp_path / "o")})
    info = json.loads((tmp_path / "o/run.json").read_text())
    assert info["status"] == "failed"
    assert (tmp_path / "o/report.html").exists()


@pytest.fixture
def mistake(client, xrays, tmp_path, capsys, monkeypatch):
    """Run a wrong command; return the one line that it says, and that nothing was written."""
    monkeypatch.chdir(tmp_path)
    client([0, 1])
    good = {
        "--init": "init.safetensors", "--trained": "trained.safetensors", "--model": "lenet",
        "--lr": "0.1", "--images": "xrays/client.csv", "--indices": "0,1",
    }  # fmt: skip

    def said(*sets, **wrong):
        options = good | {f"--{key.replace('_', '-')}": value for key, value in wrong.items()}
        arguments = [part for pair in options.items() if pair[1] is not None for part in pair]
        for one in (f"data.image-size={SIZE}", *sets):
            arguments += ["--set", one]
        assert main(["audit", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not Path("results").exists()
        return line.removeprefix("fl-sim: error: ")

    return said


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"init": "nowhere.pt"}, "--init nowhere.pt: no such file or folder"),
        ({"trained": "no@2"}, "--trained no@2: no run's folder at no"),
        ({"trained": "xrays"}, "--trained xrays: xrays: holds no model of round 1"),
        ({"init": "xrays/client.csv"}, "--init xrays/client.csv: xrays/client.csv: allowed are"),
        ({"model": "resnet18"}, "--init init.safetensors: does not fit the model: "),
        ({"model": "lenot"}, "model.name = 'lenot': must be one of "),
        ({"model": None}, "--model: which architecture is it? One of lenet, "),
        ({"lr": None}, "--lr: with which learning rate did the client train?"),
        ({"lr": "-1"}, "local.lr = -1.0: must be a number > 0"),
        ({"trained": "init.safetensors"}, "--trained init.safetensors: its weights are those of"),
        ({"images": "no.csv"}, "data.path = 'no.csv': no such file or folder"),
        ({"images": None}, "--indices: of which images? --images names the file"),
        ({"indices": "0,6"}, "--indices 6: 'client' has 6 images; allowed are 0 to 5"),
        ({"indices": "1-x"}, "--indices 1-x: must be like 0,3,5-9"),
        ({"batch_size": "3"}, "local.batch-size = 3: there are 2 images; must be <= 2"),
        ({"batch_size": "1", "steps": "1"}, "--images: 2 images, and the update holds 1 "),
        ({"loss": "l2"}, "model.loss = 'l2': must be one of cross-entropy, bce"),
        ({"loss": "bce"}, "model.loss = 'bce': 'client' has one label an image; must be cross"),
        ({"batch_norm": "off"}, "model.batch-norm = 'off': must be one of train, eval"),
        ({"normalise": "0.5"}, "--normalise 0.5: must be MEAN,STD with STD > 0"),
        ({"attack": "dlgg"}, "adversary.attack = 'dlgg': must be one or more of "),
        ({"frames": "-1"}, "Invalid value for '--frames': -1 is not in the range x>=0."),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(mistake, wrong, line):
    assert mistake(**wrong).startswith(line)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("data.image-size=8", "--init init.safetensors: does not fit the model: head.weight"),
        ("data.channels=3", "data.channels = 3: the model of --init init.safetensors takes 1"),
        ("clients=3", "clients = 3: 2 images are not the same number for each"),
        ("adversary.options=standard.efort=quick", "adversary.standard.efort: unknown option"),
        ("local.freeze=batch-norm", "local.freeze = 'batch-norm': the model has no batch norm"),
        ("device=abacus", "device = 'abacus': must be"),
    ],
)
def test_a_wrong_setting_is_one_line_too(mistake, change, line):
    assert mistake(change).startswith(line)


def test_what_lies_in_the_files_can_be_wrong(mistake, tmp_path):
    state = checkpoints.read(tmp_path / "trained.safetensors")
    torch.save({**state, "head.bias": torch.tensor([1.0, torch.nan])}, tmp_path / "nan.pt")
    assert mistake(trained="nan.pt") == "--trained nan.pt: head.bias holds NaN or infinite values"
    torch.save({"body.0.weight": state["body.0.weight"]}, tmp_path / "half.pt")
    assert mistake(init="half.pt").startswith("--init half.pt: has no last linear layer called")
    (tmp_path / "outside.png").write_bytes((tmp_path / "xrays/0.png").read_bytes())
    (tmp_path / "xrays/client.csv").write_text("path,label\n../outside.png,0\n1.png,1\n")
    assert "path '../outside.png' leads out of the folder" in mistake()


def test_what_an_audit_does_not_read_is_a_line(client, xrays, tmp_path, capsys):
    files = client([0])
    command = ["audit", "--init", files[0], "--trained", files[1], "--model", "lenet",
               "--lr", "0.1", "--out", str(tmp_path / "o")]  # fmt: skip
    assert main([*command, "--set", "data.alpha=2", "--set", "local.decay=0.5"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("fl-sim: error: ") for line in told] == [
        "data.alpha: fl-sim audit does not read it",
        "local.decay = 0.5: nothing reads it without local.schedule = 'step'",
    ]
    with pytest.raises(SettingsError, match=r"data\.path = .*: nothing reads it without"):
        prepare(*files, {**BASE, "data.path": str(xrays)})
    with pytest.raises(DataError, match="data.columns = 'path=x': the data set 'embedded' has no"):
        prepare(*files, {**BASE, "data.name": "embedded", "data.columns": "path=x"})
    assert not (tmp_path / "o").exists()


def test_an_earlier_audit_is_not_lost_to_a_mistake(client, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = client([0])
    command = ["audit", "--init", files[0], "--trained", files[1], "--model", "lenet",
               "--lr", "0.1", "--frames", "0", "--set", f"data.image-size={SIZE}",
               "--set", "adversary.attack=ing",
               "--set", "adversary.options=ing.iterations=2"]  # fmt: skip
    assert main(command) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2] == str(tmp_path / "results/audit/report.html")
    assert told[-1].startswith("verdict: Not measured")
    assert any("1 image in 1 step of 1" in line for line in told)
    before = Path("results/audit/run.json").read_bytes()
    assert main(command) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--loss", "none"]) == 2
    assert Path("results/audit/run.json").read_bytes() == before
    shutil.rmtree("results")


@pytest.mark.parametrize(
    ("text", "numbers"), [("3", [3]), ("0,3,5-7", [0, 3, 5, 6, 7]), ("2, 1", [2, 1])]
)
def test_indices(text, numbers):
    assert parse_indices(text) == numbers


@pytest.mark.parametrize("text", ["", "-1", "3-1", "1,,2", "1.5", "0,1,1", "0-3,2"])
def test_wrong_indices(text):
    with pytest.raises(AuditError, match="--indices"):
        parse_indices(text)


@pytest.mark.parametrize("text", ["", "1", "a,b", "0,0", "nan,1", "0,inf", "1,2,3"])
def test_wrong_normalisation(text):
    with pytest.raises(AuditError, match="--normalise"):
        parse_normalisation(text)
