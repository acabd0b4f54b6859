"""Pages written from results and settings: docs/results, the table of settings, the README's.

    python -m benchmarks pages
    python -m benchmarks pages --check

With ``--check`` nothing is written: a line for each page that is not what its results say, and
exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from adversary.common.files import atomic_write
from benchmarks import certificates
from benchmarks.tables import (
    attack_meets_bound,
    bounds,
    defences,
    exact_recovery,
    hospitals,
    identification,
    local_steps,
    multi_label,
    overview,
    paper_tables,
    practical_fedavg,
    speed,
    trained_networks,
    ziegler,
)
from benchmarks.tables.rows import ResultError, read
from fl_sim.cli.listing import settings_markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results")
"""Where results lie, below the root."""


class PageError(ValueError):
    """Pages that cannot be made; the message names the file and why."""


@dataclass(frozen=True)
class Page:
    """A file, or a block in one, that is made of results.

    Parameters
    ----------
    path : str
        The file, below the root.
    sources : tuple of str
        Files of results.
    text : callable
        From what the sources hold, one argument each, to Markdown.
    block : str
        Where the text stands in a file that is written by hand: between the comments
        ``<!-- BLOCK: ... -->`` and ``<!-- end of BLOCK -->``. Empty: the text is the file.
    """

    path: str
    sources: tuple[str, ...]
    text: Callable[..., str]
    block: str = ""


PAGES = (
    Page("docs/results/index.md", ("exact_recovery.json", "realistic.jsonl", "paper_tables.jsonl"),
         overview.page),
    Page("docs/results/exact-recovery.md",
         ("exact_recovery.json", "exact_recovery_rounded.jsonl", "realistic.jsonl"),
         exact_recovery.page),
    Page("docs/results/trained-networks.md",
         ("realistic.jsonl", "realistic_rounded.jsonl", "batch_statistics_error.jsonl"),
         trained_networks.page),
    Page("docs/results/paper-tables.md",
         ("paper_tables.jsonl", "encgrad_time.jsonl", "paper.jsonl"), paper_tables.page),
    Page("docs/results/local-steps.md", ("local_steps.jsonl",), local_steps.page),
    Page("docs/results/practical-fedavg.md", ("practical_fedavg.jsonl",), practical_fedavg.page),
    Page("docs/results/multi-label.md", ("multi_label.json",), multi_label.page),
    Page("docs/results/identification.md", ("identification.jsonl",), identification.page),
    Page("docs/results/hospitals.md", ("hospitals.jsonl",), hospitals.page),
    Page("docs/results/attack-meets-bound.md", ("attack_meets_bound.jsonl",),
         attack_meets_bound.page),
    Page("docs/results/bounds.md", ("bound_versus_attack.json",), bounds.page),
    Page("docs/results/speed.md",
         ("beside_training.jsonl", "thousand_clients.jsonl", "time_to_target.jsonl",
          "versus_breaching.jsonl", "evaluation_speed.jsonl"), speed.page),
    Page("docs/results/defences.md", ("defences.json",), defences.page),
    Page("docs/results/ziegler.md", ("ziegler.jsonl", "realistic.jsonl"), ziegler.page),
    Page("docs/results/certificates.md", ("certificates.json",), certificates.page),
    Page("docs/reference/settings.md", (), settings_markdown, block="settings"),
    Page("README.md", ("exact_recovery.json", "realistic.jsonl", "paper_tables.jsonl"),
         overview.table, block="figures"),
)  # fmt: skip


def pages(root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield each page and the text that it should have.

    A page of which there are neither results nor a file is not made.

    Raises
    ------
    PageError
        If results are missing, cannot be read, or belong to no page.
    """
    _check_known(root / RESULTS)
    for page in PAGES:
        path = root / page.path
        there = [name for name in page.sources if (root / RESULTS / name).exists()]
        if not path.exists() and (page.block or not there):
            continue
        text = _text(page, root / RESULTS)
        yield path, _with_block(path, page.block, text) if page.block else text


def stale(root: Path = ROOT) -> list[str]:
    """Return a line for each page that is not what its results say."""
    lines = []
    for path, text in pages(root):
        if not path.exists():
            lines.append(f"{path} is missing: run python -m benchmarks pages")
        elif path.read_text(encoding="utf-8") != text:
            lines.append(f"{path} is not up to date: run python -m benchmarks pages")
    return lines


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say what is old")
    parser.add_argument("--root", type=Path, default=ROOT, help="of a checkout")
    given = parser.parse_args()
    try:
        if given.check:
            if lines := stale(given.root):
                sys.exit("\n".join(lines))
            return
        for path, text in pages(given.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(path)
    except PageError as error:
        sys.exit(str(error))


def _check_known(folder: Path) -> None:
    known = sorted({name for page in PAGES for name in page.sources})
    for path in sorted(folder.glob("*.json*")):
        if path.name not in known:
            raise PageError(f"{path}: no page is made of it; known are {', '.join(known)}")


def _text(page: Page, folder: Path) -> str:
    found = []
    for name in page.sources:
        try:
            found.append(read(folder / name))
        except ResultError as error:
            raise PageError(f"{folder / name}: {error}") from error
    try:
        return page.text(*found)
    except (ValueError, KeyError, TemplateError) as error:
        of = folder / page.sources[0] if page.sources else page.path
        raise PageError(f"{of}: no page can be made of it ({error})") from error


def _with_block(path: Path, block: str, text: str) -> str:
    """Return a file's text with another block.

    Raises
    ------
    PageError
        If the file has no such block.
    """
    whole = path.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(f"<!-- {block}: ")
    head, opened, old = rest.partition(" -->\n")
    _, end, after = old.partition(f"<!-- end of {block} -->")
    if not (begin and opened and end):
        raise PageError(f"{path}: there is no block <!-- {block}: ... --> to write into")
    return f"{before}{begin}{head}{opened}{text.rstrip()}\n{end}{after}"


if __name__ == "__main__":
    main()
