"""Arrows go one way: fl_sim -> strategies -> adversary; and an attack sees no truth."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folder or file -> what nothing in it may import, not even inside a function.
FORBIDDEN = {
    "adversary": ("flwr", "ray", "strategies", "fl_sim"),
    "strategies": ("ray", "fl_sim"),
    "adversary/attacks": (
        "adversary.common.truth",
        "adversary.scoring",
        "adversary.bounds",
        "adversary.storage",
        "adversary.report",
    ),
    "fl_sim/settings": ("flwr", "ray"),
    "fl_sim/federation.py": ("flwr", "ray"),
    "fl_sim/offline": ("flwr", "ray"),
    "fl_sim/client_names.py": ("flwr", "ray"),
    "fl_sim/data": ("flwr", "ray"),
    "fl_sim/models": ("flwr", "ray"),
    "fl_sim/defences": ("flwr", "ray"),
    "fl_sim/training": ("flwr", "ray"),
}

# The rooms of each package, from the ground up: a room imports those of lower floors alone.
# A file at a package's top is a room of its own.
FLOORS = {
    "adversary": (
        ("common",),
        ("observation", "priors"),
        ("problem",),
        ("bounds", "optim"),
        ("identification", "labels"),
        ("scoring",),
        ("attacks", "storage"),
        ("report",),
    ),
    "strategies": (
        ("attack_queue", "messages", "registry", "replies", "strategy_state", "time_left"),
        ("grids", "mods", "wrappers"),
        ("honest_but_curious",),
        ("drop_in", "honest_but_curious_secagg"),
    ),
    "fl_sim": (
        ("client_names", "data", "models", "progress", "workers"),
        ("training",),
        ("defences",),
        ("settings",),
        ("adversary_setup", "consistency", "galleries", "loggers"),
        ("federation",),
        ("client_app", "run_metadata"),
        ("rounds",),
        ("offline", "server_app"),
        ("engines",),
        ("cli",),
    ),
}

ENTRIES = 14
"""At the top of adversary/, with ``__init__.py`` and ``py.typed``."""


MAX_LINES = 50
"""Of a function, without its docstring."""

MAX_ARGUMENTS = 6
"""Of a call, unless it makes an object."""

DRAWING = (
    "adversary/report/charts.py",
    "adversary/report/comparison_page.py",
    "adversary/report/naming_charts.py",
    "adversary/report/run_page.py",
    "fl_sim/data/sources/phantom.py",
)
"""Files that draw or fill in a page: line by line, and by calls with an argument for each trait."""

FOREIGN_CALLS = ("subprocess.run", "torch_adam", "torch_sgd")
"""Functions of others that need more arguments."""


def modules(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Yield every dotted name that ``file`` imports; ``from a import b`` gives a and a.b.

    What is imported for annotations alone never is when the program runs, and does not count.
    """
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_go_one_way(place):
    files = modules(place)
    assert files, f"{place} is gone: the rule is about nothing"
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported(file)
        if any(within(name, package) for package in FORBIDDEN[place])
    ]
    assert not wrong, "\n".join(wrong)


def rooms(package: str) -> dict[str, set[str]]:
    """Return the rooms of a package, and which others each of them imports."""
    found: dict[str, set[str]] = {}
    for file in modules(package):
        parts = file.relative_to(ROOT / package).with_suffix("").parts
        if parts == ("__init__",):
            continue  # the package's face
        own = found.setdefault(parts[0], set())
        names = (name.split(".") for name in imported(file) if within(name, package))
        own |= {name[1] for name in names if len(name) > 1} - {parts[0]}
    return {room: {to for to in others if to in found} for room, others in found.items()}


@pytest.mark.parametrize("package", FLOORS)
def test_no_import_climbs_a_floor(package):
    floor = {room: n for n, level in enumerate(FLOORS[package]) for room in level}
    graph = rooms(package)
    for room in sorted(graph, key=lambda room: (floor.get(room, -1), room)):
        print(f"{floor.get(room)} {room} <- {', '.join(sorted(graph[room])) or 'nothing'}")
    assert set(graph) == set(floor)
    up = [f"{a} imports {b}" for a, others in graph.items() for b in others if floor[b] >= floor[a]]
    assert not up


def test_the_top_of_the_adversary_fits_on_a_screen():
    entries = [p.name for p in (ROOT / "adversary").iterdir() if p.name != "__pycache__"]
    assert len(entries) <= ENTRIES, entries


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_says_what_lives_in_it(package):
    for init in (ROOT / package).rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        assert len(text.splitlines()) > 2, f"{init.relative_to(ROOT)} says too little"


def test_attacks_use_each_others_public_names():
    folders = {p.name for p in (ROOT / "adversary/attacks").iterdir() if (p / "attack.py").exists()}
    wrong = []
    for file in [*modules("adversary"), *modules("strategies"), *modules("fl_sim")]:
        inside = file.relative_to(ROOT).parts[2:3]
        for name in imported(file):
            parts = name.split(".")
            if parts[:2] != ["adversary", "attacks"] or len(parts) < 4 or parts[2] not in folders:
                continue
            is_module = (ROOT / "/".join(parts[:4])).with_suffix(".py").exists()
            registry = file == ROOT / "adversary/attacks/__init__.py"
            if is_module and inside != (parts[2],) and not registry:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong


BEFORE_TORCH = "fl_sim/cli/options.py"
"""Its errors are made before torch, and so UserError, is loaded."""


@pytest.mark.parametrize("package", FLOORS)
def test_every_error_and_warning_is_one_for_the_user(package):
    for file in sorted((ROOT / package).rglob("*.py")):
        if file == ROOT / BEFORE_TORCH:
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith(("_", "User")):
                continue
            bases = {ast.unparse(base) for base in node.bases}
            if node.name.endswith("Warning"):
                assert bases == {"UserNotice"}, node.name
            elif node.name.endswith("Error") or "Exception" in bases:
                own = bases - {"ValueError", "RuntimeError"}
                assert own
                assert all(name.endswith("Error") for name in own), node.name


def outside_drawing() -> Iterator[tuple[str, ast.Module]]:
    """Yield the name and the syntax of each file of the three packages that draws nothing."""
    for file in [path for package in FLOORS for path in modules(package)]:
        name = file.relative_to(ROOT).as_posix()
        if name not in DRAWING:
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how long a function is, without its docstring."""
    first, last = function.body[0], function.end_lineno or 0
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return last - function.lineno + 1 - docstring


def makes_an_object(call: ast.Call) -> bool:
    """Whether a call is of a class, or makes a changed copy of an object."""
    last = ast.unparse(call.func).split(".")[-1].lstrip("_")
    return last[:1].isupper() or last in ("cls", "replace")


def test_functions_are_short():
    assert not [
        f"{name}: {node.name} has {lines_of(node)} lines"
        for name, tree in outside_drawing()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MAX_LINES
    ]


def test_calls_have_few_arguments():
    assert not [
        f"{name}:{node.lineno}: {ast.unparse(node.func)}"
        for name, tree in outside_drawing()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and len(node.args) + len(node.keywords) > MAX_ARGUMENTS
        and not makes_an_object(node)
        and ast.unparse(node.func) not in FOREIGN_CALLS
    ]


def test_no_default_is_made_by_a_call():
    files = [path for package in FLOORS for path in modules(package)]
    marked = [p.name for p in files if "noqa: B008" in p.read_text(encoding="utf-8")]
    assert not marked


def test_attacks_cannot_name_the_truth():
    names = [
        f"{file.name}: {node.id if isinstance(node, ast.Name) else node.attr}"
        for file in modules("adversary/attacks")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "Truth")
        or (isinstance(node, ast.Attribute) and node.attr == "Truth")
    ]
    assert not names


NOT_OF_CLIENTS = (
    "ray adversary.attacks adversary.identification adversary.report "
    "adversary.scoring adversary.storage matplotlib pandas sklearn scipy.fft scipy.sparse "
    "scipy.stats torchmetrics torchvision opacus torch._dynamo"
)
"""What takes longer to load than a small model's round, in each client's process."""

DETOURS = {
    "from attacks to federations attacked again": [
        (
            "adversary.attacks, adversary.attacks.adversary",
            "adversary.scoring adversary.bounds adversary.storage adversary.report",
        ),
        ("adversary.attacks.adversary, adversary.report.run_page", "flwr ray strategies fl_sim"),
        (
            "fl_sim.federation, fl_sim.offline.reattack, "
            "fl_sim.offline.audit, fl_sim.offline.comparison",
            "flwr ray",
        ),
    ],
    "in a client's process": [
        ("strategies", "ray fl_sim"),
        ("fl_sim.client_app", NOT_OF_CLIENTS),
    ],
}
"""Imports, one after the other in one process, and what none of them so far may have brought."""


@pytest.mark.parametrize("way", DETOURS)
def test_nothing_is_imported_by_detour(way):
    code = "".join(
        f"import sys, {start}\n"
        f"there = [name for name in {absent.split()!r} if name in sys.modules]\n"
        f"if there: sys.exit({start!r} + ' brings ' + ', '.join(there))\n"
        for start, absent in DETOURS[way]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_scan_sees_every_kind_of_import(tmp_path, monkeypatch):
    file = tmp_path / "package" / "module.py"
    file.parent.mkdir()
    file.write_text(
        "import ray.util\nfrom flwr import app\nfrom . import near\nfrom .near import x\n"
        "def late():\n    from fl_sim.data import load\n"
        "if TYPE_CHECKING:\n    import torch\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    names = set(imported(file))
    assert names >= {
        "ray.util", "flwr.app", "package.near", "package.near.x", "fl_sim.data.load"
    }  # fmt: skip
    assert "torch" not in names


def test_the_page_has_the_files_from_a_reply_to_its_row():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "route"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    files, spine = found["files"], found["spine"]
    assert len(spine) <= 20
    assert files[0].startswith("strategies/honest_but_curious")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## From a reply to a row\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert re.findall(r"`([\w/]+\.py)`", "\n".join(rows)) == files
    assert re.findall(r"\*\*`([\w/]+\.py)`\*\*", "\n".join(rows)) == spine


def test_every_file_that_the_architecture_names_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:adversary|strategies|fl_sim|benchmarks|tests)/[\w/]+\.py", page))
    assert len(named) > 40
    assert [
        name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()
    ] == []
