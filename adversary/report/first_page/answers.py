"""The five questions of a data-protection officer, answered in sentences that can be quoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from adversary.report.first_page.actions import next_steps
from adversary.report.first_page.hospitals import Hospital, by_level, listed
from adversary.report.first_page.likeness import likeness
from adversary.report.first_page.situation import Situation
from adversary.report.leakage_rows import Row
from adversary.report.templating import format_number, percent
from adversary.scoring.verdict import COPY_PSNR, Evidence, Severity

FIRST_STEPS = 3
"""Next steps told on the first screen; all have a section of their own."""


@dataclass(frozen=True)
class Answer:
    """A question, and its answer in sentences."""

    slug: str
    question: str
    sentences: tuple[str, ...]


def answers(of: Situation) -> tuple[Answer, ...]:
    """Return the answers in the order of :data:`QUESTIONS`."""
    return tuple(
        Answer(slug, question, tuple(answer(of))) for slug, (question, answer) in QUESTIONS.items()
    )


def headline(of: Situation) -> str:
    """Return the verdict in a few words."""
    if of.summary.named is None and of.all_failed:
        return "Not measured: every attack failed"
    if of.summary.named is None and not of.summary.images:
        return "Nothing to judge yet"
    if of.level is Severity.UNKNOWN and not of.summary.has_truth:
        return "Not measured: no true X-rays to compare with"
    if of.level is Severity.PROTECTED and not of.covers_all:
        counts = f" ({of.attacked:,} of {of.about.images:,} X-rays)" if of.about.images else ""
        return f"{of.level.label}, as far as examined{counts}"
    return of.level.label


def _visible(of: Situation) -> Iterator[str]:
    if of.all_failed:
        failed = f"all {of.summary.failed} attacks" if of.summary.failed > 1 else "the attack"
        nothing = "nothing" if of.summary.named is None else "no picture"
        yield f"Not known: {failed} failed, so there is {nothing} to judge; the reasons are below."
        yield "An attack that failed is no evidence of safety."
        yield from _named(of)
        return
    if not of.summary.images:
        yield "Not known: no attack has finished yet, so there is nothing to judge so far."
        yield from _named(of)
        return
    yield from _VISIBLE[of.level](of)
    yield from _named(of)


def _named(of: Situation) -> Iterator[str]:
    if (strongest := of.summary.named) is None:
        return
    others = [one for one in of.hospitals if one.named and one.client != strongest.row["client"]]
    more = f", and patients of {listed(sorted(others, key=_by_client))}" if others else ""
    yield f"Given their X-rays, the server can name {strongest.words}{more}."


def _by_client(one: Hospital) -> str:
    return one.client


def _seen(of: Situation) -> Iterator[str]:
    what = "patients’ X-rays" if not of.about.synthetic else "synthetic X-rays"
    yield (
        f"Yes. From model updates alone the server could see {what}: {of.shown:,} of "
        f"{of.scored:,} examined."
    )


def _singled_out(of: Situation) -> Iterator[str]:
    if of.summary.named_alone:
        yield "Not as a picture; yet the server could tell who was in the training."
    else:
        yield "Not clearly; yet the server could single out patients among candidates."
    yield _no_comfort(of)


def _traced(of: Situation) -> Iterator[str]:
    worst = Evidence.of(of.summary.worst)
    if worst.beyond_prior and worst.beyond_null:
        yield "No, but updates gave away more of patients than any chest X-ray shows."
    else:
        yield "No, but poor pictures point to their patients more often than by chance."
    yield _no_comfort(of)


def _open(of: Situation) -> Iterator[str]:
    yield "Not by the attacks that were run: they got little."
    yield _no_comfort(of)


def _protected(of: Situation) -> Iterator[str]:
    yield "No. What was examined shows nobody more than any chest X-ray does."
    if of.guarantee is not None and of.guarantee.settles:
        yield "The privacy guarantee below says so, not an attack that failed."
    elif of.summary.bound is None:
        yield (
            "The attacker’s posterior is what it knew before: the updates tell it nothing. No "
            "bound was worked out in this run."
        )
    else:
        yield "A bound for any attacker says so, not an attack that failed."


def _unmeasured(of: Situation) -> Iterator[str]:
    if of.summary.has_truth:
        yield "Not known: no figure could be had; the reasons are given below."
        return
    yield (
        "Not known from here: this run has no true images, as in a real deployment, so "
        "pictures can only be compared by those who hold the X-rays."
    )
    if (proved := of.summary.certified) is not None:
        yield (
            f"By its own certificate, without the truth, the attacker proved {proved} pictures."
            if proved.count
            else f"The attacker itself could prove none of its {proved.of} pictures, which is no "
            "evidence of safety."
        )


_VISIBLE: dict[Severity, Callable[[Situation], Iterator[str]]] = {
    Severity.VISIBLE: _seen,
    Severity.IDENTIFIABLE: _singled_out,
    Severity.TRACES: _traced,
    Severity.OPEN: _open,
    Severity.PROTECTED: _protected,
    Severity.UNKNOWN: _unmeasured,
}


def _no_comfort(of: Situation) -> str:
    if of.limit is None:
        return (
            "This is no evidence of safety: a stronger attack may see more, and no bound says how "
            "much."
        )
    return (
        "This is no evidence of safety: a stronger attack may see more, up to "
        f"{format_number(of.limit, 1)} dB on average."
    )


def _where(of: Situation) -> Iterator[str]:
    worst = of.summary.worst
    if not worst and all(one.level is None for one in of.hospitals):
        yield "None was examined."
    for level, alike in by_level(of.hospitals):
        if level is not None:
            leaks = level >= Severity.TRACES
            rounds = sorted({one.worst_round for one in alike if leaks and one.worst_round})
            told = f"; worst in {_rounds(rounds)}" if 0 < len(rounds) <= 3 else ""
            every = f" ({len(alike)} of {len(of.hospitals)})" if len(of.hospitals) > 1 else ""
            yield f"{level.label}: {listed(alike)}{every}{told}."
    if worst:
        what = "Worst X-ray" if of.summary.has_truth else "Best by the attacker’s own score"
        source = _of(worst, of) if of.about.aggregate else f"the update of {_of(worst, of)}"
        yield (
            f"{what}: {_who(worst)}, from {source} in round {worst['round']}, by the attack "
            f"{worst['attack']}."
        )


def _meaning(of: Situation) -> Iterator[str]:
    if not of.summary.images and of.summary.named is not None:
        yield "Such updates tell who was in the training: they are to be handled as patients' data."
        return
    if not of.summary.images:
        yield "Nothing follows from this run so far, neither harm nor safety."
        return
    if of.level >= Severity.IDENTIFIABLE and not of.about.synthetic:
        yield "Such updates are to be handled as the X-rays themselves."
    if of.summary.has_truth:
        yield f"The worst picture is {likeness(Evidence.of(of.summary.worst))}."
    else:
        yield "What the attacker made is shown; whether it is a patient, it alone cannot say."
    yield limit_in_words(of)
    if of.summary.refuting is not None:
        yield f"The privacy account is wrong. {of.summary.refuting.refutation}"
    elif of.guarantee is not None:
        yield of.guarantee.statement
        if not of.guarantee.holds_against_server:
            yield "It promises nothing against the server, which is the attacker here."
    elif of.about.defended:
        yield "The defence earns no ε here: it promises nothing that can be proved."


def limit_in_words(of: Situation) -> str:
    """Return what no attacker is expected to exceed, in words and dB."""
    summary = of.summary
    if summary.bound is None:
        if summary.certificates.get("nothing") == summary.images:
            return "Proven limit: the updates tell the attacker nothing beyond public X-rays."
        return "Proven limit: none was worked out in this run."
    if of.reached is not None and of.reached > summary.bound and summary.bound < COPY_PSNR:
        return (
            f"Proven limit, on average over X-rays: {summary.bound:.1f} dB. The worst picture "
            f"here lies above that average ({of.reached:.1f} dB), as single ones may."
        )
    if summary.bound >= COPY_PSNR:
        return (
            "No limit protects: the updates hold enough for a copy of an X-ray (bound for any "
            f"attacker: {format_number(summary.bound, 1)} dB)."
        )
    return (
        f"Proven limit for any attacker ({format_number(summary.bound, 1)} dB): "
        f"{summary.bound_meaning}."
    )


def _next(of: Situation) -> Iterator[str]:
    for step in next_steps(of)[:FIRST_STEPS]:
        yield step.what


def _unknown(of: Situation) -> Iterator[str]:
    if of.not_examined:
        yield f"Not examined: {listed(of.not_examined)}."
    if of.summary.failed and of.summary.images:
        failed = "1 attack" if of.summary.failed == 1 else f"{of.summary.failed} attacks"
        yield f"{failed} failed, for reasons given below: what was attacked so is not judged."
    if of.summary.images:
        others = "" if of.whole and not of.updates_left else " Nothing is said of others."
        yield f"Examined: {examined(of)}.{others}"
    if (range_ := of.shown_interval) is not None and of.summary.has_truth:
        low, high = range_
        share = (
            f"Between {percent(low)} and {percent(high)} of all X-rays would"
            if of.shown
            else f"Up to {percent(high)} of all X-rays could still"
        )
        yield f"{share} be visible, were those examined drawn at random (exact 95 % interval)."
    if of.summary.images and not of.looked_for:
        yield "Nobody was looked for by name, so whether it can be told who took part is not known."
    yield "Not tried: a server that deviates from the protocol, and other models, data or settings."
    if of.oracles:
        yield f"The attacker was told more than a server knows: {', '.join(of.oracles)}."
    if of.about.synthetic:
        yield "The images are synthetic: what leaks of real X-rays is not known from here."
    if of.status not in ("completed", "unknown"):
        yield f"The run is not complete (status: {of.status})."


def examined(of: Situation) -> str:
    """Return what was looked at, of how much, in words."""
    scored = f"; {of.scored:,} scored" if of.summary.has_truth and of.scored < of.attacked else ""
    return f"{', '.join(of.summary.examined)}{scored}"


QUESTIONS: dict[str, tuple[str, Callable[[Situation], Iterator[str]]]] = {
    "visible": ("Is a patient visible?", _visible),
    "where": ("Which hospital, which round?", _where),
    "meaning": ("What does it mean?", _meaning),
    "next": ("What to do now?", _next),
    "unknown": ("What is not known?", _unknown),
}
"""By a word for each, with what answers it."""


def _who(row: Row) -> str:
    return str(row.get("truth") or f"image {row['image']}")


def _of(row: Row, of: Situation) -> str:
    names = {one.client: one.name for one in of.hospitals}
    return names.get(str(row["client"]), str(row["client"]))


def _rounds(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    return f"rounds {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
