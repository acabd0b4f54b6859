"""Defences compared: docs/results/defences.md from the comparison.json of ``fl-sim compare``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from adversary.report.comparison_json import SCHEMA
from adversary.report.comparison_page import LEARNT_AUC, UNDEFENDED
from adversary.report.flags import FLAGS
from adversary.scoring.verdict import Severity
from benchmarks.tables import markdown
from benchmarks.tables.markdown import number, share
from benchmarks.tables.rows import ResultError

Found = Mapping[str, Any]
"""What a JSON file holds."""


def page(found: Found) -> str:
    """Return the page of a comparison: comparison.json of ``fl-sim compare``.

    Parameters
    ----------
    found : mapping
        As :func:`adversary.report.comparison_json.record` gives it.

    Raises
    ------
    ResultError
        If its layout is of another version.
    """
    if found.get("schema") != SCHEMA:
        raise ResultError(f"schema = {found.get('schema')!r}: must be {SCHEMA}")
    settings = sorted(found["settings"], key=_severity, reverse=True)
    parts = [
        "# Defences compared",
        "For those who choose a defence on evidence: what each leaves of the patients' X-rays in "
        "model updates. An attack is a lower "
        "limit of what leaks, a bound an upper one: only the upper one says *protected*, and "
        "*open* is no evidence of safety. Written by `python -m benchmarks pages` from "
        "`benchmarks/results/defences.json`, the `comparison.json` of `fl-sim compare` "
        "([how](../howto/compare.md)).",
        _counts(settings),
        _table(_COLUMNS, settings),
        "PSNR in dB, of the strongest attack: the worst image, and the mean over images and "
        "seeds. *Bound*: what no attacker is expected to exceed, of the image with the most to "
        "see; an average, so a single picture may lie a few dB above it. *Proved*: share of the "
        "images of which the attacker can prove, without the truth, that they are right. *Mean "
        "X-ray*: PSNR of the mean public X-ray. *Null*: of the reconstructions beside patients "
        "whom they did not come from. *Named at 1 %*: share of the patients whom the server names "
        "among candidates at one false alarm in a hundred; of an update of one image that is all "
        "or none. An epsilon stands only where the mechanism earns one.",
        *_hardly_learnt(settings),
        "## What was examined",
        "\n".join(_examined(settings)),
        "## Measured with",
        "\n".join(_measured(found)),
        *_flags(settings),
        *_reported(found, settings),
    ]
    return "\n\n".join(parts) + "\n"


def _severity(setting: Found) -> tuple[Severity, float]:
    """Orders settings worst first; of open ones, by what may be there."""
    level = _level(setting)
    psnr, bound = setting["figures"]["psnr"], setting["figures"]["bound_psnr"]
    figure = bound["limit"] if level is Severity.OPEN else psnr["worst"]
    return level, float("inf") if figure is None else figure


def _level(setting: Found) -> Severity:
    return Severity[(setting["verdict"] or "unknown").upper()]


def _counts(settings: Sequence[Found]) -> str:
    levels = [_level(setting) for setting in settings]
    told = [f"{levels.count(level)} {level.label.lower()}" for level in sorted(set(levels))[::-1]]
    return f"{len(settings)} settings: {', '.join(told)}."


def _worst(setting: Found) -> str:
    """Return the PSNR of the worst image; that of an exact copy is infinite, and null in JSON."""
    value = setting["figures"]["psnr"]["worst"]
    return "exact" if value is None and _level(setting) is Severity.VISIBLE else number(value)


def _of_chance(setting: Found) -> str:
    found = setting["figures"]["reidentified"]
    chance = "" if found["chance"] is None else f" (chance {100 * found['chance']:.2g} %)"
    return share(found["rate"]) + chance


_COLUMNS: dict[str, Callable[[Found], str]] = {
    "setting": lambda one: markdown.escaped(one["label"]),
    "verdict": lambda one: _bold(_level(one)),
    "worst": _worst,
    "mean": lambda one: number(one["figures"]["psnr"]["mean"]),
    "bound": lambda one: number(one["figures"]["bound_psnr"]["worst"]),
    "proved": lambda one: share(one["proved"]),
    "mean X-ray": lambda one: number(one["figures"]["prior_psnr"]["mean"]),
    "null": lambda one: number(one["figures"]["null_psnr"]["mean"]),
    "re-identified": _of_chance,
    "named at 1 %": lambda one: share(one["figures"]["identification"]["tpr_1"]),
    "AUC": lambda one: number(one["figures"]["auc"]["mean"], 3),
    "epsilon": lambda one: number(one["figures"]["privacy"]["epsilon"], 2),
    "attack": lambda one: one["attack"] or "–",
    "flags": lambda one: ", ".join(one["flags"]) or "–",
}


def _bold(level: Severity) -> str:
    return f"**{level.label}**" if level.settled else level.label


def _table(columns: Mapping[str, Callable[[Found], str]], rows: Iterable[Found]) -> str:
    body = [[cell(row) for cell in columns.values()] for row in rows]
    return markdown.table(list(columns), body)


def _hardly_learnt(settings: Sequence[Found]) -> list[str]:
    known = [one["figures"]["auc"]["mean"] for one in settings if one["defence"] == UNDEFENDED]
    if all(auc is not None and auc >= LEARNT_AUC for auc in known):
        return []
    return [
        f"The undefended model's AUC is below {LEARNT_AUC:g}: it has hardly learnt, so these AUCs "
        "do not tell what a defence costs."
    ]


def _examined(settings: Sequence[Found]) -> Iterator[str]:
    by: dict[str, list[str]] = {}
    for setting in settings:
        by.setdefault(_examination(setting["examined"]), []).append(setting["label"])
    for what, labels in by.items():
        whose = "every setting" if len(by) == 1 else markdown.escaped(", ".join(labels))
        yield f"- {whose}: {what}"


def _examination(one: Found) -> str:
    if not one["images"]:
        return "nothing"
    whose = (
        f"the aggregate of {one['hospitals']} hospitals"
        if one["aggregate"]
        else f"{one['clients']} of {one['hospitals']} hospitals"
    )
    return (
        f"{whose}, {one['rounds']} of {one['rounds_run']} rounds, images: {one['images']} of "
        f"{one['images_held']} that the hospitals hold, seeds: {one['runs']}"
    )


def _measured(found: Found) -> Iterator[str]:
    data, common = found["data"], found["common"]
    if isinstance(data, Mapping):
        kind = " (synthetic)" if data["synthetic"] else ""
        name = markdown.escaped(str(data["name"]))
        yield (
            f"- data: {name}{kind}, {data['private']} images of clients, "
            f"{data['public']} public, {data['test']} to test with"
        )
    yield f"- seeds: {', '.join(map(str, found['seeds']))}; date: {found['date'] or '–'}"
    revision = found["revision"] or "–"
    known = revision if isinstance(revision, str) else ", ".join(revision)
    yield f"- device: {found['device'] or '–'}; revision: {known}"
    versions = found["versions"]
    if isinstance(versions, Mapping):
        yield "- versions: " + ", ".join(f"{name} {number}" for name, number in versions.items())
    told = ("model.name", "model.activation", "data.image-size", "clients", "rounds",
            "local.batch-size", "adversary.attack", "adversary.effort")  # fmt: skip
    chosen = [f"`{key} = {common[key]}`" for key in told if key in common]
    yield f"- common settings, among others: {', '.join(chosen)}"


def _flags(settings: Sequence[Found]) -> list[str]:
    raised = [name for name in FLAGS if any(name in one["flags"] for one in settings)]
    if not raised:
        return []
    return [
        "## Flags raised",
        "\n".join(f"- `{n}`: {FLAGS[n].meaning} {FLAGS[n].action}" for n in raised),
    ]


def _reported(found: Found, settings: Sequence[Found]) -> list[str]:
    if not found["reported"]:
        return []
    ours = {one["label"]: one["figures"]["psnr"]["mean"] for one in settings}
    columns: dict[str, Callable[[Found], str]] = {
        "source": lambda one: markdown.escaped(one["source"]),
        "attack": lambda one: one.get("attack", "–"),
        "their setting": lambda one: markdown.escaped(one["setting"]),
        "reported PSNR": lambda one: number(one["psnr"], 2),
        "nearest here": lambda one: markdown.escaped(one["matches"]),
        "ours, mean": lambda one: number(ours.get(one["matches"])),
        "what differs": lambda one: markdown.escaped(one["differs"]),
    }
    return [
        "## Reported by others",
        "Figures as their sources state them, beside the nearest setting here. Other data and "
        "networks give other figures: a difference is no ranking of attacks.",
        _table(columns, found["reported"]),
    ]
