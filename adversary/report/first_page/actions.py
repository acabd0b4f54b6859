"""What to do now: rules from verdict, bound, coverage and settings to concrete steps.

After Lighthouse's audits: each step says what to do, why it is advised for this run, and by which
command. A rule is an entry of :data:`ACTIONS`; it holds where its ``applies`` says so.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from adversary.report.first_page.likeness import likeness
from adversary.report.first_page.situation import Situation
from adversary.report.templating import format_number
from adversary.scoring.verdict import CLOSE_PSNR, Evidence, Severity

GAP = 6.0
"""dB between attack and bound from which more effort is advised."""

_UNSETTLED = (Severity.OPEN, Severity.TRACES, Severity.UNKNOWN)

Words = Callable[[Situation], str]


@dataclass(frozen=True, kw_only=True)
class Action:
    """A rule: when a step is advised, and in which words.

    Parameters
    ----------
    applies : callable
        Whether it is advised for a run.
    what, why : callable
        The step, and the reason by this run's own figures; a sentence each.
    command : callable
        How to take it on the command line; empty where that is not where it is taken.
    """

    applies: Callable[[Situation], bool]
    what: Words
    why: Words
    command: Words = lambda of: ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a rule says of one run."""

    name: str
    what: str
    why: str
    command: str


def next_steps(of: Situation) -> list[Step]:
    """Return the steps advised for a run, the most urgent first."""
    return [
        Step(name=name, what=rule.what(of), why=rule.why(of), command=rule.command(of))
        for name, rule in ACTIONS.items()
        if rule.applies(of)
    ]


def _leaks(of: Situation) -> bool:
    return of.level >= Severity.IDENTIFIABLE


def _is_open(of: Situation) -> bool:
    return bool(of.summary.images) and of.level in _UNSETTLED


def _updates_hold_more(of: Situation) -> bool:
    return of.limit is not None and of.limit >= CLOSE_PSNR


def _may_leak(of: Situation) -> bool:
    return _leaks(of) or (_is_open(of) and (of.limit is None or _updates_hold_more(of)))


def _unfinished(of: Situation) -> bool:
    return of.status in ("running", "stopped", "failed") and not of.about.audit


def _more_effort(of: Situation) -> bool:
    reached, limit = of.reached, of.limit
    gap = reached is None or limit is None or limit >= reached + GAP
    return _is_open(of) and gap and of.about.effort != "thorough" and _again(of)


def _may_be_looked_for(of: Situation) -> bool:
    open_question = bool(of.summary.images) and not of.looked_for and not of.level.settled
    return open_question and _again(of) and not of.about.audit and not of.cannot_look


def _more_to_examine(of: Situation) -> bool:
    open_question = bool(of.summary.images) and of.level is not Severity.VISIBLE
    return open_question and not of.whole and not of.about.audit


def _some_unused(of: Situation) -> bool:
    return of.about.images is not None and 0 < of.attacked < of.about.images


def _again(of: Situation) -> bool:
    """Whether ``fl-sim attack`` can attack the updates again: of models that it knows alone."""
    return of.recorded and not of.about.own_app


def _standard(of: Situation) -> bool:
    return "standard" in of.about.attacks


def _weak_epsilon(of: Situation) -> bool:
    return of.guarantee is not None and of.guarantee.too_large


def _command(*words: str) -> str:
    return shlex.join(["fl-sim", *words])


def _compare(of: Situation) -> str:
    kept = ("data.name", "data.path", "data.image-size", "model.name", "model.activation",
            "local.batch-size", "local.max-steps")  # fmt: skip
    known = {key: of.about.settings.get(key) for key in kept}
    if known["model.name"] != "convnet":
        known["model.activation"] = None
    changes = [f"{key}={value}" for key, value in known.items() if value not in (None, "")]
    return _command(
        "compare", "--config", "configs/compare.toml",
        *(word for change in changes for word in ("--set", change)),
    )  # fmt: skip


def _more_rounds(of: Situation) -> str:
    assert of.about.images is not None
    rounds = math.ceil((of.about.rounds or 1) * of.about.images / of.attacked)
    return f"fl-sim run … --set rounds={rounds}"


def _why_stop(of: Situation) -> str:
    if of.summary.named_alone and of.summary.named is not None:
        return f"The server can name {of.summary.named.words}."
    worst = of.summary.worst
    return (
        f"From one update of {worst['client']} in round {worst['round']} the server made a picture "
        f"that is {likeness(Evidence.of(worst))}."
    )


def _why_batches(of: Situation) -> str:
    batch, named = of.about.batch_size or 1, of.summary.named
    shared = min(batch, of.together)  # a hospital may hold fewer X-rays than a batch
    if shared > 1 and not of.summary.named_alone:
        return (
            f"Here {shared} X-rays shared a step, and the worst picture is "
            f"{likeness(Evidence.of(of.summary.worst))}."
        )
    if named is not None and min(batch, named.row["members"]) > 1:
        return f"Here X-rays are in batches of {batch}, and the server can name {named.words}."
    return (
        "One X-ray a step, as in the worst update here, is the easiest case; yet updates of "
        "several came back too (the results pages of the documentation have the figures), and no "
        "bound falls to chance."
    )


def _why_defences(of: Situation) -> str:
    if not of.about.defence:
        return (
            "Whether clients change their updates was not told here. Only a bound or an ε that is "
            "earned can promise something; the comparison shows both beside the price in accuracy."
        )
    if not of.about.defended:
        return (
            "Nothing is changed in the updates here. Only a bound or an ε that is earned can "
            "promise something; the comparison shows both beside the price in accuracy."
        )
    return (
        f"{of.about.protection} does not settle it here; the comparison shows which strength or "
        "which other defence does, and what it costs in accuracy."
    )


def _why_effort(of: Situation) -> str:
    reached = "no figure" if of.reached is None else f"{format_number(of.reached, 1)} dB"
    if of.limit is None:
        return f"The attack got {reached}, and how much more is there is not known."
    return f"The attack got {reached}; the updates may hold up to {of.limit:.1f} dB on average."


def _why_rest(of: Situation) -> str:
    return (
        f"Examined were {', '.join(of.summary.examined)}: hospitals that train on few X-rays, and "
        "later rounds, may give away more."
    )


def _why_account(of: Situation) -> str:
    assert of.summary.refuting is not None
    return (
        f"{of.summary.refuting.refutation} Noise scaled by less than neighbours can differ is the "
        "usual reason."
    )


def _why_weak(of: Situation) -> str:
    assert of.guarantee is not None
    return (
        f"ε = {of.guarantee.epsilon:,.3g} is too large to promise much. About 1 to 3 limits what "
        "anyone can conclude; the noise for it follows from rounds, steps and batch size."
    )


def _repeat(of: Situation) -> str:
    return f"The verdict is on {of.about.conditions}, and one change of these can turn it."


ACTIONS: dict[str, Action] = {
    "go-on": Action(
        applies=_unfinished,
        what=lambda of: "Finish the run before anything is concluded from it.",
        why=lambda of: f"Its status is “{of.status}”; what is not there yet is not judged.",
        command=lambda of: _command("run", "--resume", "--out", of.folder),
    ),
    "truth": Action(
        applies=lambda of: bool(of.summary.images) and not of.summary.has_truth,
        what=lambda of: "Let the hospital put the pictures beside its own X-rays.",
        why=lambda of: "Without the truth nobody can say what the pictures show of patients.",
        command=lambda of: "fl-sim audit … --images FILE.csv" if of.about.audit else "",
    ),
    "stop": Action(
        applies=lambda of: _leaks(of) and not of.about.synthetic,
        what=lambda of: "Do not send such updates: hold the training until a defence is in place.",
        why=_why_stop,
    ),
    "stop-synthetic": Action(
        applies=lambda of: _leaks(of) and of.about.synthetic,
        what=lambda of: "Do not train on real X-rays with these settings.",
        why=lambda of: "Synthetic images came back; real ones go the same way.",
    ),
    "defences": Action(
        applies=_may_leak,
        what=lambda of: "Compare defences on data of this kind, and take one that a limit backs.",
        why=_why_defences,
        command=_compare,
    ),
    "account": Action(
        applies=lambda of: of.summary.refuting is not None,
        what=lambda of: "Do not rely on the privacy account: it is wrong.",
        why=_why_account,
        command=lambda of: _command("check-dp", of.about.defence),
    ),
    "epsilon": Action(
        applies=_weak_epsilon,
        what=lambda of: "Choose a smaller ε, and check which one is really earned.",
        why=_why_weak,
        command=lambda of: _command("check-dp", of.about.defence),
    ),
    "batches": Action(
        applies=_leaks,
        what=lambda of: "Do not rely on larger batches or more local steps: they do not protect.",
        why=_why_batches,
    ),
    "standard": Action(
        applies=lambda of: _is_open(of) and not _standard(of) and _again(of),
        what=lambda of: "Run the standard adversary: it needs no choice of an attack.",
        why=lambda of: f"{of.about.attacks} alone was run. {_why_effort(of)}",
        command=lambda of: _command("attack", of.folder, "--attack", "standard"),
    ),
    "failed": Action(
        applies=lambda of: of.all_failed,
        what=lambda of: (
            "Attack the updates by the standard adversary before anything is concluded."
        ),
        why=lambda of: (
            f"{of.about.attacks or 'What was run'} failed on them; the standard adversary takes "
            "what suits the model."
        ),
        command=lambda of: (
            _command("attack", of.folder, "--attack", "standard")
            if _again(of)
            else "fl-sim run … --set adversary.attack=standard"
        ),
    ),
    "thorough": Action(
        applies=lambda of: _more_effort(of) and _standard(of),
        what=lambda of: "Run the thorough effort before anything is concluded.",
        why=_why_effort,
        command=lambda of: _command("attack", of.folder, "--set", "adversary.effort=thorough"),
    ),
    "record": Action(
        applies=lambda of: _is_open(of) and not of.recorded and not of.about.audit,
        what=lambda of: "Keep the updates, so that a stronger attack can be run on them.",
        why=lambda of: f"None were kept. {_why_effort(of)}",
        command=lambda of: (
            "curious(…, record=True)"
            if of.about.own_app
            else "fl-sim run … --set adversary.record=true"
        ),
    ),
    "bound": Action(
        applies=lambda of: of.summary.has_truth and of.summary.bound is None,
        what=lambda of: "Work out the bound for any attacker.",
        why=lambda of: (
            "An attack is a lower limit only; without an upper one nothing is shown to protect."
        ),
        command=lambda of: (
            _command("attack", of.folder, "--set", "adversary.bounds=on")
            if _again(of)
            else "fl-sim run … --set adversary.bounds=on"
        ),
    ),
    "identify": Action(
        applies=_may_be_looked_for,
        what=lambda of: "Look for known patients in the updates.",
        why=lambda of: "Where pictures fail, an update may still tell who was in the training.",
        command=lambda of: _command("identify", of.folder),
    ),
    "keep": Action(
        applies=lambda of: of.level is Severity.PROTECTED,
        what=lambda of: "Keep the defence and its strength as they are.",
        why=lambda of: "What protects is the limit that they set, not that an attack failed.",
    ),
    "rest": Action(
        applies=lambda of: _more_to_examine(of) and of.updates_left,
        what=lambda of: "Attack the other hospitals and rounds too.",
        why=_why_rest,
        command=lambda of: "fl-sim run … --set adversary.clients=0 --set adversary.every=1",
    ),
    "rounds": Action(
        applies=lambda of: _more_to_examine(of) and not of.updates_left and _some_unused(of),
        what=lambda of: "Repeat it over more rounds, until every X-ray was in an update.",
        why=lambda of: (
            f"Every update was attacked, and {of.attacked:,} of {of.about.images:,} X-rays went "
            "into them."
        ),
        command=_more_rounds,
    ),
    "repeat": Action(
        applies=lambda of: bool(of.summary.images),
        what=lambda of: "Repeat this when model, batch size, steps, rounds or defence change.",
        why=_repeat,
    ),
}
"""Rules by name, the most urgent first."""
