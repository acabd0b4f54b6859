"""The one entry to the benchmarks.

python -m benchmarks --help
python -m benchmarks NAME [its own arguments]
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Benchmark:
    """A module that can be run.

    Parameters
    ----------
    module : str
        Its dotted name.
    title : str
        The first line of its docstring.
    """

    module: str
    title: str

    def run(self, arguments: Sequence[str]) -> None:
        """Run it in this process, as if it had been called with these arguments."""
        before = sys.argv
        sys.argv = [f"python -m benchmarks {self.module.rpartition('.')[2]}", *arguments]
        try:
            importlib.import_module(self.module).main()
        finally:
            sys.argv = before


def benchmarks(folder: Path = FOLDER) -> dict[str, Benchmark]:
    """Return every module below a folder that has a ``main``, by its file's name.

    Modules are read and not imported, as the list should not wait for torch.

    Parameters
    ----------
    folder : Path
        A package's folder.
    """
    found = {}
    for path in sorted(folder.rglob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            parts = path.relative_to(folder).with_suffix("").parts
            title = (ast.get_docstring(tree) or "").partition("\n")[0]
            found[path.stem] = Benchmark(".".join([folder.name, *parts]), title)
    return dict(sorted(found.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that is named first, with the arguments behind its name."""
    known = benchmarks()
    width = max(map(len, known)) + 2
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run a benchmark; python -m benchmarks NAME --help says how.",
        epilog="\n".join(f"  {name:{width}}{one.title}" for name, one in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=known, help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the benchmark's own")
    given = parser.parse_args(arguments)
    known[given.name].run(given.arguments)


if __name__ == "__main__":
    main()
