"""What a newcomer can get wrong, through ``fl-sim run`` itself: one clear line, the exit code."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main

QUICK = (
    "rounds=1", "device=cpu", "data.name=embedded", "data.image-size=16",
    "adversary.attack=dlg", "adversary.options=dlg.iterations=2",
    "adversary.bounds=off",
)  # fmt: skip


def command(*changes: str, out: str = "run") -> list[str]:
    changes = (*QUICK, f"out={out}", *changes)
    return ["run", "--engine", "local", *(w for change in changes for w in ("--set", change))]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(path: str, *, mode: str = "L") -> None:
    shape, top, kind = {
        "L": ((20, 20), 255, np.uint8),
        "RGB": ((20, 20, 3), 255, np.uint8),
        "I;16": ((20, 20), 65535, np.uint16),
    }[mode]
    values = np.random.default_rng(len(path)).integers(0, top, shape)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(kind)).save(path)


def folder_of_pictures(name: str, *, mode: str = "L") -> None:
    for label in "ab":
        for number in range(8):
            picture(f"{name}/{label}/{number}.png", mode=mode)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["lcoal.lr=1"], "lcoal.lr: unknown setting; did you mean local.lr?"),
        (["rounds=two"], "rounds = 'two': must be an integer >= 1"),
        (["local.lr=-1"], "local.lr = -1: must be a number > 0"),
        (["local.lr=nan"], "local.lr = nan: must be a number > 0"),
        (["data.channels=2"], "data.channels = 2: allowed are 1 (grey) and 3"),
        (["data.public=-1", "adversary.start=mean"], "data.public = -1: must be an integer >= 0"),
        (["data.name=folder"], "data.path = '': the data set 'folder' needs a path"),
        (["data.name=folder", "data.path=nowhere"], "data.path = '{here}/nowhere': no such file"),
        (["adversary.attack="], "adversary.attack = '': must be one or more of standard, "),
        (["adversary.options=dgl.tv=1"], "adversary.dgl.tv: must be adversary.ATTACK.OPTION"),
        (
            ["adversary.options=dlg.iteratons=1"],
            "adversary.dlg.iteratons: unknown option; dlg takes ",
        ),
        (["local.batch-size=4"], "local.batch-size = 4: client-00 of 4 has only 3 images; must be"),
        (["data.sizes=1, x"], "data.sizes = '1, x': must be whole numbers, one a client"),
        (["data.sizes=1, 2"], "data.sizes = '1, 2': one size for each of the 4 clients is needed"),
        (["clients=13"], "client 11 has no data: 12 images of 11 patients cannot give each of 13"),
        (["device=cuda:99"], "device = 'cuda:99': there are "),
        (["out="], "out = '': must be text, not empty"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(changes, said, tmp_path, capsys):
    assert main(command(*changes)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fl-sim: error: " + said.format(here=tmp_path))
    assert not any(tmp_path.iterdir())


def test_an_empty_results_folder_is_not_the_current_one(tmp_path, capsys):
    assert main([*command(), "--out", "", "--overwrite"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fl-sim: error: out = '': must be text, not empty"
    assert not any(tmp_path.iterdir())


def test_mistyped_sections_of_a_file(capsys):
    Path("my.toml").write_text("[locl]\nlr = 0.1\n[adversery]\nattack = 'dlg'\n")
    assert main([*command(), "--config", "my.toml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "fl-sim: error: locl.lr: unknown setting; did you mean local.lr?",
        "fl-sim: error: adversery.attack: unknown setting; did you mean adversary.attack?",
    ]
    assert not Path("run").exists()


def test_data_without_labels(capsys):
    for number in range(8):
        picture(f"xrays/{number}.png")
    assert main(command("data.name=folder", "data.path=xrays")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "xrays/0.png: has no label; each image belongs into a sub-folder" in line


def test_an_unreadable_image(capsys):
    folder_of_pictures("xrays")
    Path("xrays/a/3.png").write_text("no picture")
    assert main(command("data.name=folder", "data.path=xrays")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "xrays/a/3.png: cannot be read as PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM"
    )


@pytest.mark.parametrize(
    ("mode", "channels", "warned"),
    [
        ("I;16", 1, []),
        ("RGB", 3, []),
        (
            "RGB",
            1,
            [
                "fl-sim: warning: xrays: 16 of 16 images are in colour (the first is a/{first}); "
                "they were converted to grey"
            ],
        ),
    ],
)
def test_deep_and_coloured_images_are_used(mode, channels, warned, capsys):
    folder_of_pictures("xrays", mode=mode)
    changes = ("data.name=folder", "data.path=xrays", f"data.channels={channels}")
    assert main(command(*changes)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(warned)
    for line, expected in zip(lines, warned, strict=True):
        start, _, end = expected.partition("{first}")
        assert line.startswith(start)
        assert line.endswith(end)


def test_when_every_client_fails_the_reason_is_told_once(capsys):
    # One image of 16 pixels leaves batch normalisation nothing to normalise by.
    assert main(command("model.name=resnet18")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "fl-sim: error: round 1: none of 4 clients returned a usable update: "
        "client-00, client-01, client-02, client-03 failed: TrainingError: model.batch-norm = "
    )
    assert line.count("model.batch-norm") == 1
    info = RunFolder.open(Path("run")).info()
    assert info["status"] == "failed"
    assert "none of 4 clients" in info["reason"]


def test_training_that_diverges(capsys):
    changes = ("local.lr=1e30", "local.weight-decay=1", "local.max-steps=0", "rounds=3")
    assert main(command(*changes)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds NaN or infinite values" in line
    assert RunFolder.open(Path("run")).info()["status"] == "failed"


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("file", "Not a directory"),
        ("file/run", "Not a directory"),
        ("/proc/run", "No such file or directory"),
    ],
)
def test_a_results_folder_that_cannot_be_written(out, why, tmp_path, capsys):
    Path("file").write_text("mine")
    assert main(command(out=out)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"fl-sim: error: {tmp_path / out} cannot be written: {why}"
    assert Path("file").read_text() == "mine"


def test_an_older_run_is_left_as_it_is(capsys):
    assert main(command()) == 0
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(command()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "already holds a run" in line
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


def on_disk(root: Path, disk: Path, options: str, *, then: str = "true"):
    """Run fl-sim in a namespace of its own, with a real file system at ``disk``."""
    disk.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o {options} tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run([*namespace, mount], check=False).returncode:
        pytest.skip("no file system can be mounted here: unshare or mount is not allowed")
    return subprocess.run(
        [
            *(*namespace, f'{mount}; "$@"; code=$?; {then}; exit $code', "sh"),
            *_python(root),
            *command("rounds=3", out=str(disk / "run")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_read_only_disk_is_one_line(root, tmp_path):
    done = on_disk(root, tmp_path / "disk", "ro")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == (f"fl-sim: error: {tmp_path}/disk/run cannot be written: Read-only file system")


def test_a_full_disk_keeps_whole_rows_and_fails(root, tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    done = on_disk(root, disk, "size=96k", then=f"cp -r {disk}/run {kept}")
    assert done.returncode == 1, done.stderr
    said = done.stderr.splitlines()
    assert said[-1].startswith(f"fl-sim: error: the report is not complete: {disk}/run/")
    assert said[-1].endswith(" cannot be written: No space left on device")
    assert all("cannot be written: No space left on device" in line for line in said), said
    folder = RunFolder(kept)
    assert folder.info()["seed"] == 1  # run.json is whole
    for name in ("leakage.csv", "rounds.csv"):
        assert (kept / name).read_bytes().endswith(b"\n")
    leakage = folder.leakage()
    assert 1 <= len(leakage) < 12
    assert leakage["mse"].notna().all()
    assert list(leakage["round"]) == sorted(leakage["round"])


def test_ctrl_c_stops_a_local_run_and_keeps_its_rows(root, tmp_path):
    with subprocess.Popen(
        [*_python(root), *command("rounds=1000")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if " · round 3 · " in line:  # so the row of round 2 is written
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    folder = RunFolder.open(tmp_path / "run")
    assert folder.info()["status"] == "stopped"
    assert list(folder.rounds()["round"])[:2] == [1, 2]
    assert len(folder.leakage()) >= 2 * 4
    assert (tmp_path / "run" / "report.html").is_file()


def _python(root: Path) -> list[str]:
    """Return the beginning of a command line that runs this checkout's fl-sim."""
    program = textwrap.dedent(f"""
        import signal, sys
        sys.path.insert(0, {str(root)!r})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from adversary.scoring import scorer
        from fl_sim.cli.app import main
        scorer.load_lpips = lambda: (None, "not in this test")
        raise SystemExit(main(sys.argv[1:]))
    """)
    return [sys.executable, "-c", program]
