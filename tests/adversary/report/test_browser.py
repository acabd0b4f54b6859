"""The report in a real browser, at the widths of a desktop and of a phone."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from adversary.common.results import Frame
from adversary.report import pictures, run_page
from adversary.report.comparison import ComparedSetting, Run, compare_runs
from adversary.report.comparison_page import render
from adversary.report.first_page.answers import QUESTIONS
from adversary.storage import picture_files
from adversary.storage.run_folder import RunFolder
from helpers.browser import accessibility_faults, browse, found_in, needs_chromium, printed
from helpers.kinds_of_runs import KINDS

WIDTHS = (1280, 390)

pytestmark = needs_chromium

# Runs in the page: what is wider than the window, dim or empty.
PROBE = r"""
const part = (v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const numbers = (text) => text.match(/[\d.]+/g).map(Number);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = numbers(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) { return colour; }
  }
  return [255, 255, 255];
};
const contrast = (node) => {
  const style = getComputedStyle(node);
  const ink = luminance(numbers(node.ownerSVGElement ? style.fill : style.color));
  const paper = luminance(behind(node));
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
};
const all = (selector) => Array.from(document.querySelectorAll(selector));
const text = all("body *").filter((node) => node.tagName !== "SCRIPT" &&
  node.getClientRects().length &&
  Array.from(node.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim()));
const found = {
  width: innerWidth,
  scroll: document.documentElement.scrollWidth,
  wide: all("body *").filter((node) => node.getBoundingClientRect().right > innerWidth + 1 &&
    !node.closest(".scroll")).map((node) => node.outerHTML.slice(0, 80)),
  dim: text.filter((node) => contrast(node) < 4.5).map((node) => node.textContent.trim()),
  empty: all("img, svg").filter((node) => {
    const box = node.getBoundingClientRect();
    return box.width < 20 || box.height < 5 || node.naturalWidth === 0;
  }).length,
  bare: all("svg").filter((node) => node.querySelectorAll("use").length < 3).length,
};
const output = document.querySelector("form.filters output");
const select = document.querySelector("form.filters select");
found.before = output.textContent;
select.selectedIndex = 1;
select.dispatchEvent(new Event("change", {bubbles: true}));
found.after = output.textContent;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, attacked):
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", candidates=4)
    long = "client-of-a-hospital-with-a-very-long-name-and-no-spaces-in-it-at-all"
    attacked(folder, rounds=3, clients=("client-00", long))
    truth = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
    where = 1, "client-00", "ing"
    frames = [Frame(0, i, 1.0 / (i + 1), truth * i / 9) for i in range(10)]
    picture_files.write_files(folder.process(*where), pictures.process_files(frames, truth))
    folder.history(*where).write_text(
        "\n".join(
            ["restart,iteration,score,seconds", *(f"0,{i},{1 / (i + 1)},1" for i in range(10))]
        )
    )
    picture_files.write_files(folder.images(*where), pictures.bound_images(truth))
    folder.add_failure(3, long, "dlg", "x" * 200)
    folder.add_account(round=3, client=long, rounds=3, epsilon=1.5, delta=1e-5)
    folder.update(
        settings={"data": {"path": "/a/long/path" * 20}}, oracles=["labels known"],
        threat={"view": "client", "labels_known": True, "defence_known": True},
    )  # fmt: skip
    return run_page.render(folder)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_or_is_dim_or_empty_and_filters_work(report, width):
    found = found_in(report, width, PROBE)
    assert found["width"] == width
    assert (found["scroll"], found["wide"]) == (width, [])
    assert found["dim"] == []
    assert found["empty"] == found["bare"] == 0
    assert found["before"] == "6 of 6 pictures shown, 7 of 7 rows shown"
    assert found["after"] == "2 of 6 pictures shown, 2 of 7 rows shown"


@pytest.mark.parametrize("width", WIDTHS)
def test_screenshots_show_something_everywhere(report, width):
    shot = report.with_name("shot.png")
    browse(report, width, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("L")).astype(float)
    assert pixels.shape == (2400, width)
    assert all(band.std() > 5 for band in np.array_split(pixels, 8))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, attacked):
    """Write a comparison of two settings, and return its page."""
    tmp_path = tmp_path_factory.mktemp("comparison")
    settings = []
    for name in ("none", "gaussian-noise"):
        run = attacked(RunFolder.create(tmp_path / name, candidates=4), rounds=1, bound_psnr=133.6)
        attacked(run, rounds=1, clients=("client-07",))  # of some images there is no bound
        run.finish("completed")
        runs = (Run(seed=1, path=run.path),)
        settings.append(ComparedSetting(label=name, defence=name, parameters="", runs=runs))
    return render(tmp_path, compare_runs(settings))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_has_no_serious_fault_of_accessibility(comparison, width):
    assert accessibility_faults(comparison, width) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits_and_filters(comparison, width):
    found = found_in(comparison, width, PROBE)
    assert (found["scroll"], found["wide"]) == (width, [])
    assert found["dim"] == []
    assert found["empty"] == 0
    assert (found["before"], found["after"]) == (
        "2 of 2 settings shown", "1 of 2 settings shown"
    )  # fmt: skip


FIRST_SCREEN = r"""
const box = (node) => node.getBoundingClientRect();
const all = (selector) => Array.from(document.querySelectorAll(selector));
const found = {
  questions: all("#summary h3").map((node) => node.textContent),
  bottom: Math.max(...all("#summary .verdict, #summary .worst, #summary .answers").map((node) =>
    box(node).bottom)),
};
"""


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Return what gives the page of a kind of run, drawn once."""
    return cache(lambda kind: run_page.render(KINDS[kind](tmp_path_factory.mktemp(kind) / "run")))


@pytest.mark.parametrize("kind", KINDS)
def test_five_questions_are_answered_on_the_first_screen(page_of, kind):
    found = found_in(page_of(kind), 1280, FIRST_SCREEN, height=800)
    assert found["questions"] == [question for question, _ in QUESTIONS.values()]
    assert found["bottom"] <= 800


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_run_is_wider_than_a_phone(page_of, kind):
    found = found_in(page_of(kind), 390, PROBE)
    assert (found["scroll"], found["wide"], found["dim"]) == (390, [], [])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_run_has_a_serious_fault_of_accessibility(page_of, kind, width):
    assert accessibility_faults(page_of(kind), width) == []


MOST_PAGES = 6
"""Of the printed report of four hospitals in three rounds, as the demo has them."""


def sheets(pdf):
    """Return the size in points of each sheet of a PDF."""
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    return [tuple(round(float(side)) for side in box) for box in boxes]


def test_a_report_is_printed_on_few_upright_sheets(tmp_path, attacked):
    folder = RunFolder.create(tmp_path / "run", candidates=6)
    attacked(folder, rounds=3, clients=[f"client-{i:02d}" for i in range(4)])
    found = sheets(printed(run_page.render(folder)))
    assert 2 <= len(found) <= MOST_PAGES
    assert {width < height for width, height in found} == {True}


def test_a_comparison_is_printed_across(comparison):
    found = sheets(printed(comparison))
    assert 1 <= len(found) <= MOST_PAGES
    assert {width > height for width, height in found} == {True}
