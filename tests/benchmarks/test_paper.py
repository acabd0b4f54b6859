"""``python -m benchmarks paper``: rows as the paper has them, made once, with errors of a line."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import common, paper
from benchmarks.encgradinversion import authors, memory, protocol
from benchmarks.encgradinversion.cells import AUTHORS, METHODS, OURS, TABLES, Cell, Choice
from benchmarks.encgradinversion.datasets import DATASETS
from benchmarks.encgradinversion.errors import PaperError
from benchmarks.encgradinversion.growth import growth
from benchmarks.encgradinversion.published import behind, published


@pytest.fixture
def images(tmp_path):
    """An npz file of 16 smooth coloured images of 16 pixels."""
    coarse = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=16, mode="bicubic").clamp(0, 1) * 255
    np.savez(tmp_path / "set.npz", images=smooth.permute(0, 2, 3, 1).byte().numpy())
    return tmp_path / "set.npz"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command; return its exit code or message, the rows, and what it said."""

    def command(*arguments):
        out = tmp_path / "out" / "rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["paper", *map(str, arguments), "--out", str(out)])
        with pytest.raises(SystemExit) as end:
            paper.main()
        return end.value.code, common.read_rows(out), capsys.readouterr()

    return command


QUICKLY = ("--size", "16", "--images", "2", "--options", "iterations=3 refine=2")


def test_rows_are_made_once_and_have_pictures(run, images, tmp_path, monkeypatch):
    wanted = ("--table", "VII", "--data", images, "--batch", "1,2", *QUICKLY)
    code, rows, said = run(*wanted)
    assert code == 0
    assert [(r["batch"], r["batches"], r["method"][-1]) for r in rows] == [
        (1, 2, "2"), (1, 2, "3"), (2, 1, "2"), (2, 1, "3")]  # fmt: skip
    assert {r["dataset"] for r in rows} == {"CIFAR-100"}
    assert {r["data"] for r in rows} == {"set"}
    for row in rows:
        assert 0 < row["ssim"] <= 1
        assert row["seconds"] > 0
        assert row["peak_mib"] > 50
        assert ("ssim_std" in row) == (row["batches"] > 1)
    assert len(list((tmp_path / "out" / "pictures").glob("*.png"))) == 4
    assert json.loads(said.out)["made"] == 4
    assert "1/4" in said.err
    assert "(0.81)" in said.err  # as published
    monkeypatch.setattr(paper, "measure", None)  # would fail
    code, again, _ = run(*wanted)
    assert (code, again) == (0, rows)


def test_a_row_of_other_images_steps_or_size_is_another_row(images):
    made = Choice(tables=("IV",), models=("LeNet",), batches=(2,)).cells({"cifar100": "set"})
    (first,) = made
    for change in ({"seed": 1}, {"quick": True}, {"sizes": (64,)}, {"options": "lr=0.1"},
                   {"index": "list.txt"}, {"images": 3}, {"batches": (4,)}):  # fmt: skip
        asked = {"tables": ("IV",), "models": ("LeNet",), "batches": (2,)} | change
        (other,) = Choice(**asked).cells({"cifar100": "set"})
        assert other.key() != first.key(), change
    row = json.loads(json.dumps(first.__dict__ | {"ssim": 1.0}))
    assert Cell.key_of(row) == first.key()


def test_every_published_row_has_a_cell_and_no_method_is_unknown():
    data = dict.fromkeys(DATASETS, "set")
    made = {
        (c.table, c.dataset, c.model, c.batch, c.method)
        for c in Choice(tables=tuple(TABLES), peer=True).cells(data)
    }
    from benchmarks.encgradinversion.published import _figures

    assert {(t, d, m, int(b), of) for t, d, m, b, of in _figures()} <= made
    assert {method for *_, method in made} == set(METHODS)
    quick = list(Choice(tables=tuple(TABLES), quick=True).cells(data))
    assert {cell.table for cell in quick} == set(TABLES)
    assert len(quick) < len(made) / 2
    assert not any(cell.method == AUTHORS for cell in quick)


def test_a_row_is_behind_where_the_paper_is_better():
    row = {"table": "IV", "dataset": "CIFAR-100", "model": "LeNet", "batch": 8, "method": OURS}
    assert published(row) == {"mse": 0.0099, "ssim": 0.735, "psnr": 21.42}
    assert behind(row | {"ssim": 0.7, "psnr": 30.0}) == ["ssim"]
    assert behind(row | {"ssim": 0.735, "psnr": 21.42}) == []
    assert behind(row | {"mse": 1.0}, ("mse",)) == ["mse"]
    assert behind(row | {"batch": 7, "ssim": 0.0}) == []


@pytest.mark.parametrize("batch", [1, 3])
def test_images_normalised_alone_have_the_gradient_of_batches_of_one_in_training_mode(batch):
    truths = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
    labels = torch.arange(batch)
    model = common.victim("resnet18-sigmoid", truths, 10)
    model.train()
    total = sum(
        F.cross_entropy(model(x[None]), y[None]) for x, y in zip(truths, labels, strict=True)
    )
    expected = torch.autograd.grad(total / batch, list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    alone = protocol.normalised_alone(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in alone.modules())
    found = torch.autograd.grad(F.cross_entropy(alone(truths), labels), list(alone.parameters()))
    assert [name for name, _ in alone.named_parameters()] == names
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-7)


def test_memory_is_refused_before_the_attack_with_the_batch_that_fits():
    truths = torch.rand(1, 3, 32, 32)
    model = common.victim("lenet", truths)
    both = [memory.needed(model, truths[0], batch) for batch in (10, 11)]
    each = both[1] - both[0]
    memory.check(model, truths[0], 10, free=both[0])
    with pytest.raises(PaperError, match=r"--batch 512 at 32 pixels: .* a batch of 10 fits"):
        memory.check(model, truths[0], 512, free=both[0] + each // 2)
    with pytest.raises(PaperError, match="not even one image fits"):
        memory.check(model, truths[0], 1, free=0)
    at_large = common.victim("lenet", torch.rand(1, 3, 128, 128))
    assert memory.needed(at_large, torch.rand(3, 128, 128), 1) > both[0] / 4


def test_the_peak_of_memory_is_seen():
    with memory.Peak() as peak:
        block = torch.ones(64 * memory.MIB // 4)
        for _ in range(20):
            block.mul_(1.0)
    with memory.Peak() as after:
        del block
        torch.ones(10).sum()
    assert peak.mib > 64
    assert after.mib > 0


def test_growth_is_that_of_the_times():
    batches = [1, 4, 16, 64, 256, 512]
    line = growth(batches, [2 + 0.5 * b for b in batches])
    assert (line.fixed, line.each) == (pytest.approx(2), pytest.approx(0.5))
    assert line.exponent < 1
    assert growth(batches, [3 * b**1.5 for b in batches]).exponent == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--table", "IV", "--batch", "17"), "--batch 17: set has 16 images; at most that"),
        (("--table", "IV", "--batch", "0"), "--batch 0: must be at least 1"),
        (("--table", "IV", "--images", "0"), "--images 0: must be at least 1"),
        (("--table", "IV", "--model", "VGG"), "--model VGG: must be of LeNet"),
        (("--table", "V", "--dataset", "cifar100"), "--dataset cifar100: table V is on lfw"),
        (("--table", "IV", "--method", "DLG"), "--table IV: no rows of this set, model and method"),
        (
            (
                "--table",
                "III",
            ),
            "which set? NAME=PATH",
        ),
        (("--table", "IV", "--peer", "no-clone"), "no main_gradient_attack.py there"),
        (("--table", "IV", "--index", "no-file"), "--index no-file: must be lines"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(run, images, arguments, told):
    message, rows, _ = run("--data", images, *arguments)
    assert told in message
    assert "\n" not in message
    assert rows == []


def test_what_fails_on_the_way_is_a_line_and_the_rest_goes_on(run, images, monkeypatch):
    given = ("--table", "IV", "--data", images, "--batch", "1", *QUICKLY)
    message, rows, said = run(*given, "--model", "LeNet,MobileNet", "--size", "32")
    assert message == 1
    assert rows == []
    assert said.err.count("--size 32: image") == 2
    monkeypatch.setattr(
        memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * memory.MIB)
    )
    code, rows, said = run(*given, "--model", "LeNet")
    assert (code, rows) == (1, [])
    assert "not even one image fits" in said.err


def test_sets_that_cannot_be_read_are_left_out_of_several(run, images):
    code, rows, said = run(
        "--table", "III", "--data", f"cifar100={images}", "--data", "lfw=nowhere",
        "--size", "16", "--batch", "8",
    )  # fmt: skip
    assert code == 1
    assert [row["method"] for row in rows] == ["OHA", "GRA", "consistent"]
    assert rows[2]["mse"] < rows[1]["mse"] < rows[0]["mse"]
    assert "lfw is left out: --data nowhere: no such file" in said.err
    assert "imagenet is left out" in said.err


SCRIPT = """
from torchmetrics.image.lpip import X
lpips = X()
dataset = 'ImageNet'
if True:
    n_classes = 100
filenames = os.listdir("Imagenet/")
criterion = cross_entropy
draw_figures(history)
"""


def test_the_authors_code_is_run_on_our_images(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / authors.SCRIPT).write_text(SCRIPT)
    authors.check(clone)
    text = authors.patched(SCRIPT, 1000)
    assert "n_classes = 1000" in text
    assert "datasets.CIFAR100 = _Given" in text
    truths = torch.rand(2, 3, 8, 8)
    model = common.victim("lenet", truths)
    with pytest.raises(PaperError, match="failed: NameError") as error:
        authors.run(clone, truths, model, 60)
    assert "\n" not in str(error.value)
    (clone / authors.SCRIPT).write_text("print('another version')")
    with pytest.raises(PaperError, match="not the version known here"):
        authors.check(clone)


def test_time_rows_draw_the_figure_with_its_growth(run, images, tmp_path):
    code, rows, said = run("--table", "time", "--data", images, "--batch", "1,2,4", *QUICKLY)
    assert code == 0
    assert [row["batch"] for row in rows] == [1, 2, 4]
    assert {row["outputs"] for row in rows} == {1000}
    assert "grows with the batch to the power of" in said.err
    assert (tmp_path / "out" / "time.png").stat().st_size > 1000
