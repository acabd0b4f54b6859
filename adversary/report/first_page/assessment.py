"""A paragraph and a table row for a data-protection impact assessment (DPIA), to copy.

The columns are those of the templates of the ICO and the NHS: risk, likelihood, severity, measure,
residual risk, approval. Likelihood, severity and approval are the officer's and stay empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from adversary.report.first_page.actions import next_steps
from adversary.report.first_page.answers import examined, limit_in_words
from adversary.report.first_page.likeness import likeness
from adversary.report.first_page.situation import Situation
from adversary.scoring.verdict import Evidence, Severity

OFFICER = "to be judged by the officer"


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What goes into a DPIA.

    Parameters
    ----------
    paragraph : str
        For the description of the processing and its risks.
    row : dict of str to str
        A row of the table of risks, by column; empty cells are the officer's.
    """

    paragraph: str
    row: dict[str, str]


def assessment(of: Situation) -> Assessment | None:
    """Return the paragraph and the row; None where nothing was attacked yet."""
    if not of.summary.images:
        return None
    measures = " ".join(step.what for step in next_steps(of))
    return Assessment(
        paragraph=" ".join(
            [_what_was_done(of), _means(of), _result(of), _left_out(of), _residual(of), REVIEW]
        ),
        row={
            "Date": of.about.date or "not recorded",
            "Risk": "A server that follows the protocol reconstructs, or singles out, patients’ "
            "X-rays from model updates.",
            "Data": f"{of.about.data or 'not recorded'}; {examined(of)}",
            "Evidence": f"{_result(of)} {limit_in_words(of)}",
            "Likelihood": "",
            "Severity": "",
            "Measure": measures,
            "Residual risk": _residual(of),
            "Review": REVIEW,
            "Approved by": "",
        },
    )


REVIEW = "To be repeated when model, batch size, local steps, rounds or the defence change."


def _what_was_done(of: Situation) -> str:
    about = of.about
    when = f"On {about.date} " if about.date else ""
    whose = f"the data “{about.data}”" if about.data else "X-rays"
    kind = "synthetic images, " if about.synthetic else ""
    what, was = (
        ("what lies between two models", "was")
        if about.audit
        else ("updates of a federated training", "were")
    )
    return (
        f"{when}{what} on {whose} ({kind}{examined(of)}; {about.conditions}) {was} attacked as the "
        f"server itself could ({about.adversary or 'attack not recorded'}, "
        f"{about.version or 'fl-sim'})."
    )


def _means(of: Situation) -> str:
    public = of.about.public
    several = "" if public == 1 else "s"
    xrays = f", {public:,} public X-ray{several}" if public else ", public X-rays"
    used = (
        f"Means used: the update, the training recipe that the server itself prescribes{xrays} "
        f"and {_duration(of.seconds)} of one computer"
    )
    if of.oracles:
        return f"{used}; and {', '.join(of.oracles)}, which a server would have to be told."
    return f"{used}: means reasonably likely to be used."


def _result(of: Situation) -> str:
    said = f"Result: {of.level.label.lower()}."
    if not of.summary.has_truth:
        return f"{said} There were no true images to compare with."
    if of.level is Severity.VISIBLE:
        said += f" {of.shown:,} of {of.scored:,} X-rays examined could be seen."
    said += f" The worst picture is {likeness(Evidence.of(of.summary.worst))}."
    if of.summary.named is not None:
        said += f" Given their X-rays, the server can name {of.summary.named.words}."
    return said


def _left_out(of: Situation) -> str:
    parts = ["servers that deviate from the protocol", "parties other than the server"]
    if not of.whole:
        parts.insert(0, "all other X-rays and rounds")
    if count := len(of.not_examined):
        parts.insert(0, f"{count} hospital{'' if count == 1 else 's'}")
    return f"Not examined: {'; '.join(parts)}."


def _residual(of: Situation) -> str:
    if of.level >= Severity.IDENTIFIABLE:
        return "Residual risk as it stands: patients can be seen or singled out by the server."
    if of.level is Severity.PROTECTED:
        return "Residual risk of what was examined: no more than chance, as far as the limit holds."
    return "Residual risk: not settled; attacks that got little do not show that little is there."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 7200 else f"{round(seconds / 3600)} hours"
