import json
import subprocess
import sys

import pytest

from fl_sim.cli.app import Mechanism
from fl_sim.cli.first_checks import (
    check_free,
    check_paths,
    check_recorded,
    check_run,
    check_weights,
    check_writable,
)
from fl_sim.cli.options import UsageError
from fl_sim.offline.check_dp import MECHANISMS
from fl_sim.settings.parse import parse

MISTAKES = (
    "run --config nosuch.toml",
    "run --config broken.toml",
    "run --config unknown.toml",
    "run demo.toml",
    "run --set rounds",
    "run --set rounds=three",
    "run --set rounds=0",
    "run --set data.name=cheest",
    "run --set data.name=folder --set data.path=nosuch",
    "run --set data.path=.",
    "run --set model.name=resnet",
    "run --set model.weights=nosuch.pt",
    "run --set local.optimizer=adm",
    "run --set defence.name=dpsgd",
    "run --set adversary.attack=dgl",
    "run --out taken",
    "run --resume",
    "run --resume --out nosuch",
    "run --engine ray",
    "run --set data.name=folder",
    "run --out broken.toml/run",
    "compare --config nosuch.toml",
    "compare --config plain.toml",
    "attack nosuch",
    "attack taken",
    "identify .",
    "identify taken",
    "audit --init a.pt --trained b.pt",
    "report nosuch",
    "report empty",
    "check-dp nosuch",
    "list atacks",
)

PROGRAM = """
import json, sys
from fl_sim.cli.app import main
codes = [main(line.split()) for line in json.loads(sys.argv[1])]
slow = {"torch", "flwr", "ray", "pandas"} & set(sys.modules)
print(json.dumps([codes, sorted(slow)]))
"""


def test_typical_mistakes_are_told_in_a_line_each_and_before_what_is_slow_is_imported(tmp_path):
    (tmp_path / "broken.toml").write_text("rounds = = 3")
    (tmp_path / "unknown.toml").write_text("[data]\nnam = 'sample'")
    (tmp_path / "plain.toml").write_text("rounds = 3")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run.json").write_text('{"status": "completed"}')
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(MISTAKES)],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True,
    )  # fmt: skip
    codes, slow = json.loads(done.stdout)
    assert codes == [2] * len(MISTAKES)
    assert slow == []
    lines = done.stderr.splitlines()
    assert len(lines) == len(MISTAKES) + 1  # two checkpoints are missing
    assert all(line.startswith("fl-sim: error: ") for line in lines)


@pytest.mark.parametrize(
    ("content", "offered"),
    [
        ('{"status": "stopped"}', "(--resume goes on with it, --overwrite replaces it)"),
        ('{"status": "failed"}', "(--resume goes on with it, --overwrite replaces it)"),
        ('{"status": "completed"}', "(--overwrite replaces it)"),
        ("not json", "(--overwrite replaces it)"),
        ("[]", "(--overwrite replaces it)"),
    ],
)
def test_to_go_on_is_offered_before_to_overwrite_where_it_can(tmp_path, content, offered):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        check_free(tmp_path, overwrite=False)
    assert offered in str(caught.value)
    check_free(tmp_path, overwrite=True)
    check_run(tmp_path)


def test_a_folder_without_a_run_is_free_and_no_run(tmp_path):
    check_free(tmp_path, overwrite=False)
    with pytest.raises(UsageError, match="not the folder of a run"):
        check_run(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        check_run(tmp_path / "nowhere")


def test_missing_files_are_told_a_line_each_and_names_of_hubs_are_none(tmp_path):
    here = tmp_path / "weights.pt"
    here.touch()
    check_paths(parse({"model.weights": str(here)}))
    check_paths(parse({"model.weights": "imagenet", "model.name": "resnet18"}))
    check_paths(parse({"data.name": "huggingface", "data.path": "someone/x-rays"}))
    with pytest.raises(UsageError) as caught:
        check_paths(parse({"data.name": "folder", "data.path": "/no", "model.weights": "/nor"}))
    assert str(caught.value).splitlines() == [
        "data.path = '/no': no such file or folder",
        "model.weights = '/nor': no such file or folder",
    ]


def test_checkpoints_may_be_a_round_of_a_run(tmp_path):
    check_weights(init=str(tmp_path), trained=f"{tmp_path}@2")
    with pytest.raises(UsageError, match="no such file or folder"):
        check_weights(init=str(tmp_path), trained=str(tmp_path / "after.pt"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "run")
    with pytest.raises(UsageError, match=r"file.run cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "run")


def test_updates_that_were_kept_can_be_attacked_again(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no recorded updates"):
        check_recorded(tmp_path)
    kept = tmp_path / "updates" / "round-001" / "client-00.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    check_recorded(tmp_path)
    (tmp_path / "run.json").write_text('{"settings": {"image_shape": [1, 8, 8]}}')
    with pytest.raises(UsageError, match="of a Flower app of its own"):
        check_recorded(tmp_path)


def test_the_mechanisms_of_check_dp_are_known_before_they_are_imported():
    assert [one.value for one in Mechanism] == list(MECHANISMS)
