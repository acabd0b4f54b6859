import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import LEAKAGE
from fl_sim.cli import app
from fl_sim.cli.app import main
from fl_sim.engines import flower as launcher
from fl_sim.engines.flower import LaunchError, RunStatus
from fl_sim.settings.declared import declared_settings
from fl_sim.settings.parse import parse


class Flower:
    """Stands in for Flower: takes what the launcher is given, and ends as told."""

    def __init__(self, status="finished:completed", details="", raises=None, starts=True, rows=()):
        self.status, self.raises, self.starts = RunStatus(status, details), raises, starts
        self.given, self.rows = None, rows

    def __call__(self, root, run_config, *, supernodes, log, append, on_line):
        self.given, self.root, self.supernodes = run_config, root, supernodes
        self.append = append
        log.write_text("all of it\n")
        if self.starts:
            path = Path(run_config["out"])
            folder = RunFolder.open(path) if append else RunFolder.create(path)
            csv_table.append(path / "leakage.csv", LEAKAGE, self.rows)
            if self.status.completed and self.raises is None:
                folder.finish("completed")
        on_line("INFO :      [ROUND 1/3]")
        on_line("fl-sim: round 1/3: 4 attacks, 10s left")
        on_line("WARNING :   client-02 fell asleep")
        if self.raises:
            raise self.raises
        return self.status


@pytest.fixture
def flower(monkeypatch):
    def install(**how):
        stand_in = Flower(**how)
        monkeypatch.setattr(launcher, "run_app", stand_in)
        return stand_in

    return install


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def errors(capsys) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("fl-sim: error: ") for line in lines), lines
    return [line.removeprefix("fl-sim: error: ") for line in lines]


def test_a_run_prints_progress_and_the_report_last(flower, tmp_path, capsys):
    stand_in = flower()
    assert main(["run", "--out", "results/a"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [
        "round 1/3: 4 attacks, 10s left",
        str(tmp_path / "results/a/report.html"),
    ]
    assert "ROUND" not in out
    assert err.splitlines() == ["warning: client-02 fell asleep"]
    assert (stand_in.supernodes, stand_in.given["clients"]) == (4, 4)
    assert (tmp_path / "results/a/flower.log").read_text() == "all of it\n"


def test_verbose_shows_everything(flower, capsys):
    flower()
    assert main(["run", "--verbose"]) == 0
    assert "INFO :      [ROUND 1/3]" in capsys.readouterr().out


def test_config_then_set_then_out(flower, tmp_path):
    Path("my.toml").write_text(
        'rounds = 9\nclients = 2\nout = "from-file"\n[data]\nimage-size = 32\n'
        '[adversary]\nattack = "dlg"\noptions = "dlg.iterations=3"\n'
    )
    stand_in = flower()
    code = main(
        ["run", "--config", "my.toml", "--set", "rounds=5", "--set", "local.lr=1",
         "--set", "adversary.record=true", "--set", "adversary.attack='ing'",
         "--set", "adversary.options=ing.tv=0.1", "--out", "o"]
    )  # fmt: skip
    assert code == 0
    settings = parse(stand_in.given)
    assert (settings.rounds, settings.clients, settings.data.image_size) == (5, 2, 32)
    assert (settings.local.lr, settings.adversary.record) == (1.0, True)
    assert (settings.adversary.attack, settings.adversary.options) == ("ing", {"ing.tv": 0.1})
    assert settings.out == str(tmp_path / "o")


START_IMAGE = ("--set", "adversary.start=image", "--set", "adversary.start-image=start.png")


def test_paths_are_relative_to_where_the_user_is(flower, tmp_path):
    Image.new("L", (64, 64), 128).save("start.png")
    stand_in = flower()
    assert main(["run", *START_IMAGE]) == 0
    assert stand_in.given["adversary.start-image"] == str(tmp_path / "start.png")
    assert stand_in.given["out"] == str(tmp_path / "results/run")
    assert stand_in.given["data.path"] == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("adversary.options=ing.tv=1", "adversary.ing.tv"),
        ("adversary.ing.tv=1", "adversary.ing.tv"),
        ("adversary.start-image=nowhere.png", "adversary.start-image"),
        ("defence.options=scale=1", "defence.scale"),
        ("defence.scale=1", "defence.scale"),
        ("strategy.eta=1", "strategy.eta"),
        ("local.batch-size=401", "local.batch-size = 401"),
        ("clients=401", ""),
        ("device=abacus", "device"),
    ],
)
def test_what_does_not_fit_together_is_told_before_the_older_run_is_replaced(
    change, said, flower, capsys
):
    assert flower() is not None
    assert main(["run", "--out", "o"]) == 0
    before = Path("o/run.json").read_bytes()
    capsys.readouterr()
    assert main(["run", "--out", "o", "--overwrite", "--set", change]) == 2
    (line,) = errors(capsys)
    assert line.startswith(said)
    assert Path("o/run.json").read_bytes() == before


def test_every_mistake_is_a_line_before_anything_starts(flower, capsys):
    stand_in = flower()
    Path("bad.toml").write_text("rounds = 0\n[local]\nlr = 'fast'\nmomentun = 0.5\n")
    assert main(["run", "--config", "bad.toml", "--set", "data.image-size=4"]) == 2
    lines = errors(capsys)
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "rounds", "local.lr", "local.momentun", "data.image-size"
    ]  # fmt: skip
    assert stand_in.given is None
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--config", "nowhere.toml"], "--config nowhere.toml: No such file or directory"),
        (["run", "--config", "broken.toml"], "--config broken.toml: not a TOML file: "),
        (["run", "--set", "rounds"], "--set rounds: must be KEY=VALUE"),
        (["run", "--set", "rounds=3.5"], "rounds = 3.5: must be an integer"),
        (["run", "--set", "adversary.record=yes"], "adversary.record = 'yes': must be true or fa"),
        (["run", "--engine", "steam"], "Invalid value for '--engine': 'steam'"),
        (["run", "--nonsense"], "No such option"),
        (["rum"], "No such command 'rum'"),
        (["report", "nowhere"], "nowhere: no such folder"),
        (["report"], "Missing argument 'RUN...'"),
        (["list", "everything"], "Invalid value for '[TOPIC]:"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, flower, capsys):
    flower()
    Path("broken.toml").write_text("rounds = = 3\n")
    assert main(arguments) == 2
    (line,) = errors(capsys)
    assert line.startswith(said)


def test_an_older_run_is_refused_or_replaced(flower, capsys):
    flower()
    assert main(["run", "--out", "o"]) == 0
    Path("o/updates").mkdir()
    Path("o/mine.txt").write_text("keep me")
    before = Path("o/run.json").read_bytes()
    capsys.readouterr()
    assert main(["run", "--out", "o"]) == 2
    (line,) = errors(capsys)
    assert "already holds a run" in line
    assert "--overwrite" in line
    assert Path("o/run.json").read_bytes() == before
    assert main(["run", "--out", "o", "--overwrite"]) == 0
    assert not Path("o/updates").exists()
    assert Path("o/mine.txt").read_text() == "keep me"


def test_bad_settings_do_not_cost_the_older_run(flower):
    flower()
    assert main(["run", "--out", "o"]) == 0
    assert main(["run", "--out", "o", "--overwrite", "--set", "rounds=0"]) == 2
    assert Path("o/run.json").exists()


def test_a_folder_that_cannot_be_written_is_one_line(flower, capsys):
    stand_in = flower()
    Path("file").write_text("")
    assert main(["run", "--out", "file/o"]) == 2
    (line,) = errors(capsys)
    assert "file/o" in line
    assert stand_in.given is None


def test_a_failed_run_tells_the_apps_errors_and_the_log(flower, tmp_path, capsys):
    flower(status="finished:failed", details="local.lr is too large\nrounds are too few")
    assert main(["run", "--out", "o"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3:] == [
        f"the full log is {tmp_path / 'o/flower.log'}",
        "fl-sim: error: local.lr is too large",
        "fl-sim: error: rounds are too few",
    ]
    info = RunFolder.open(Path("o")).info()
    assert info["status"] == "failed"
    assert info["reason"].startswith("local.lr")


def test_a_run_that_failed_before_it_began_can_be_tried_again(flower):
    flower(status="finished:failed", details="no", starts=False)
    assert main(["run", "--out", "o"]) == 1
    flower()
    assert main(["run", "--out", "o"]) == 0


def test_a_run_that_only_looks_completed_is_a_failure(flower, capsys):
    flower(starts=False)
    assert main(["run", "--out", "o"]) == 1
    assert "wrote no run" in capsys.readouterr().err


def test_an_interrupt_is_130_and_written_down(flower):
    flower(raises=KeyboardInterrupt())
    assert main(["run", "--out", "o"]) == 130
    assert RunFolder.open(Path("o")).info()["status"] == "stopped"


def test_flower_that_does_not_start_is_one_line(flower, capsys):
    flower(raises=LaunchError("Flower's SuperLink did not start"), starts=False)
    assert main(["run", "--out", "o"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "fl-sim: error: Flower's SuperLink did not start"
    )


def test_a_full_disk_is_one_line(flower, capsys):
    flower(raises=OSError(28, "No space left on device", "/somewhere/flower.log"), starts=False)
    assert main(["run", "--out", "o"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "fl-sim: error: /somewhere/flower.log: No space left on device"


def test_a_fault_of_the_program_keeps_its_traceback(flower):
    flower(raises=ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main(["run", "--out", "o"])


def test_several_reports_are_compared_and_patients_left_out(flower, tmp_path, capsys):
    flower()
    assert main(["run", "--out", "o/a"]) == main(["run", "--out", "o/b"]) == 0
    capsys.readouterr()
    assert main(["report", "o/a", "o/b", "--sensitive"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / name) for name in ("o/a/report.html", "o/b/report.html", "o/comparison.html")
    ]
    assert RunFolder.open(Path("o/a")).info()["sensitive"] is True
    assert main(["report", "o/a", "--no-sensitive"]) == 0
    assert RunFolder.open(Path("o/a")).info()["sensitive"] is False
    assert main(["report", "o/a", "o/b", "--out", "elsewhere"]) == 0
    assert Path("elsewhere/comparison.html").exists()
    assert main(["report", "o/a", "--out", "elsewhere"]) == 2


def test_report_is_rendered_anew(flower, tmp_path, capsys):
    flower()
    assert main(["run", "--out", "o"]) == 0
    capsys.readouterr()
    Path("o/report.html").unlink(missing_ok=True)
    assert main(["report", "o"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "o/report.html")]
    assert Path("o/report.html").stat().st_size > 0


@pytest.mark.parametrize("command", [["run", "--out", "o", "--overwrite"], ["report", "o"]])
def test_the_verdict_is_told_in_the_last_line(flower, tmp_path, capsys, command):
    row = {"round": 1, "client": "client-03", "attack": "ing", "image": 0, "score": 1.0,
           "truth": "p.png", "psnr": 52.31, "status": "ok"}  # fmt: skip
    flower(rows=[row])
    assert main(["run", "--out", "o"]) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        str(tmp_path / "o/report.html"),
        "verdict: Patient visible · worst image 52.3 dB, client-03 in round 1 by ing · examined: "
        "1 hospital, 1 round, 1 X-ray",
    ]


@pytest.mark.parametrize(
    ("row", "fail_on", "code"),
    [
        ({"psnr": 52.31}, "visible", 3),
        ({"psnr": 9.0, "rdlv": 0.0}, "visible", 0),
        ({"psnr": 9.0, "rdlv": 0.0, "negative": True}, "identifiable", 3),
        ({"psnr": 9.0, "rdlv": 0.0}, "identifiable", 0),
        ({"psnr": 9.0, "rdlv": 0.0}, "open", 3),
        ({"psnr": 9.0, "rdlv": 0.0, "prior_psnr": 18.0, "bound_psnr": 18.2}, "open", 0),
    ],
)
def test_a_pipeline_fails_from_the_verdict_on_that_it_names(flower, row, fail_on, code):
    where = {"round": 1, "client": "client-03", "attack": "ing", "image": 0, "score": 1.0,
             "truth": "p.png", "status": "ok"}  # fmt: skip
    flower(rows=[where | row])
    assert main(["run", "--out", "o", "--fail-on", fail_on]) == code
    assert main(["report", "o", "--fail-on", fail_on]) == code


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fl-sim ")


def test_a_folder_of_runs_gets_an_index(flower, tmp_path, capsys):
    flower()
    assert main(["run", "--out", "o/a"]) == 0
    capsys.readouterr()
    assert main(["report", "o"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "o/index.html")]
    assert main(["report", "nowhere"]) == 2
    assert errors(capsys) == ["nowhere: no such folder"]


def test_a_run_whose_process_is_gone_is_told_as_stopped(tmp_path, capsys):
    folder = RunFolder.create(tmp_path / "o", settings={"rounds": 3})
    folder.add_round(round=1)
    assert main(["report", "o"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "stopped after round 1 of 3; kept in o; fl-sim run --resume --out o goes on"
    ]
    assert folder.info()["status"] == "stopped"
    assert "Its process ended without a word" in (tmp_path / "o/report.html").read_text()


def test_a_run_that_was_stopped_can_go_on_before_it_is_replaced(flower, capsys):
    flower(raises=KeyboardInterrupt())
    assert main(["run", "--out", "o"]) == 130
    capsys.readouterr()
    assert main(["run", "--out", "o"]) == 2
    assert errors(capsys)[0].endswith("(--resume goes on with it, --overwrite replaces it)")


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        ("attacks", ["dlg", "ing"]),
        ("defences", ["none", "gaussian-noise"]),
        ("models", ["lenet", "resnet18"]),
        ("data", ["embedded", "phantom"]),
        ("strategies", ["fedavg", "fedadam"]),
        ("settings", ["data.image-size", "adversary.labels-known"]),
    ],
)
def test_lists(topic, names, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list", topic]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)


def test_the_readmes_table_has_every_setting(capsys):
    assert main(["list", "settings", "--markdown"]) == 0
    settings, parameters = (
        table.splitlines() for table in capsys.readouterr().out.strip().split("\n\n")
    )
    keys = [line.split("`")[1] for line in settings[2:]]
    assert keys == [one.key for one in declared_settings()]
    assert all(line.count("|") == 5 for line in settings)
    assert all(line.count("|") == 4 for line in parameters)
    assert "| `defence.scale (gaussian-noise)` | `0.1` | a number |" in parameters
    assert "| `adversary.dlg.iterations` | `300` | an integer |" in parameters


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom fl_sim.cli.app import main\n"
        "assert main(['run', '--help']) == 0\n"
        "heavy = {'torch', 'flwr', 'ray', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    root = Path(app.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in done.stdout


def test_the_command_is_installed_under_its_name(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["fl-sim"] == "fl_sim.cli:main"
    assert main(["--help"]) == 0


def test_a_run_goes_on_with_its_own_settings(flower, tmp_path):
    stand_in = flower()
    assert main(["run", "--out", "a", "--set", "rounds=7"]) == 0
    assert stand_in.append is False
    folder = RunFolder.open(tmp_path / "a")
    folder.update(settings=stand_in.given, status="running")
    stand_in = flower()
    assert main(["run", "--out", "a", "--resume"]) == 0
    assert stand_in.append is True
    settings = parse(stand_in.given)
    assert (settings.rounds, settings.resume, settings.clients) == (7, True, 4)
