"""What to look at before an evaluation is believed, after AutoAttack's flags.

A flag is raised by the attacker, who sees the update alone, or by scoring, which sees the truth as
well. It never changes a figure; it says why a figure may not mean what it seems to.
"""

from __future__ import annotations

from dataclasses import dataclass

PAGE = "docs/flags.md"
"""Where all are explained."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One reason for care.

    Parameters
    ----------
    title : str
        In a few words.
    meaning : str
        What was seen, and what it may mean.
    example : str
        When it is raised, by one case.
    action : str
        What to do about it.
    """

    title: str
    meaning: str
    example: str
    action: str


FLAGS: dict[str, Flag] = {
    "misfit": Flag(
        title="The update is not explained",
        meaning="The chi-square of the reconstruction lies outside its distribution: the images, "
        "the labels or the model of the channel are wrong.",
        example="Noise of known level, 4,000 residuals, reduced chi-square 1.13: more "
        "than five standard deviations above 1. The label was wrong.",
        action="Run the thorough effort; check that recipe and defence are as the attacker "
        "was told.",
    ),
    "several-explanations": Flag(
        title="Several explanations",
        meaning="Other images or labels explain the update nearly as well, or were not tried.",
        example="Two labels fit the update to its noise, and their images differ.",
        action="Run the thorough effort; read the reconstruction as one of several.",
    ),
    "time-limit": Flag(
        title="Cut off by a limit",
        meaning="A limit of time or evaluations ended the attack before it had finished.",
        example="adversary.seconds = 60, and the search for the second of three labels had begun.",
        action="Raise adversary.seconds or adversary.effort; what it shows is a lower limit.",
    ),
    "member-failed": Flag(
        title="A member failed",
        meaning="One attack of the ensemble raised an error, gave no number or was stopped; the "
        "others went on.",
        example="A plug-in of the ensemble gave NaN; its notes say so.",
        action="Read the note; a plug-in of your own may need mending.",
    ),
    "oracle": Flag(
        title="An oracle was used",
        meaning="The attacker was told something that a server does not have, such as the labels.",
        example="adversary.labels-known = true.",
        action="Read the figures as an upper setting, not as what a server reaches.",
    ),
    "channel-not-modelled": Flag(
        title="Defence not modelled",
        meaning="Clipping, compression or noise on the way is not in the attacker's likelihood, "
        "or its level is unknown.",
        example="Clients clip and add noise, and adversary.defence-known = false.",
        action="Tell the attacker of the defence (adversary.defence-known); a failed attack says "
        "nothing of it.",
    ),
    "diverged": Flag(
        title="Local training diverges",
        meaning="The client's local training, simulated by the attacker, runs to no finite "
        "number or away from the update.",
        example="A learning rate of 10 over four local steps: the loss, simulated, is infinite.",
        action="Check learning rate and steps: an update of a diverged training is no evidence.",
    ),
    "recipe-contradicted": Flag(
        title="The update contradicts the recipe",
        meaning="Counters or sizes in the update do not fit the number of steps or images that "
        "the recipe and the client state, or twenty times more of it stays unexplained than of "
        "what public X-rays make by that recipe.",
        example="num_batches_tracked rose by 5, where one epoch has 4 batches.",
        action="Check local epochs, batch size, learning rate, num-examples, and that the attacker "
        "knows the defence.",
    ),
    "fewer-told": Flag(
        title="Fewer images told than there are",
        meaning="The update determines fewer images than went into it; the others are guesses.",
        example="A batch of 16 with repeated labels, of which 9 encodings are determined.",
        action="Read the best image, not the mean; a bound says how much more may be there.",
    ),
    "rests-on-prior": Flag(
        title="The expectation rests on how X-rays look",
        meaning="The update is explained and tells of the patient, but a third or more of the "
        "expected error is in what it does not tell: of a patient unlike the public X-rays the "
        "picture is worse than stated.",
        example="Local DP leaves 85 of 256 unknowns determined: 28.9 dB expected, 23.4 dB actual.",
        action="Read the expected PSNR as that of a usual patient; the bound is not touched.",
    ),
    "bound-far-above": Flag(
        title="Bound far above the attack",
        meaning="The bound is 6 dB or more above what was reached: a stronger attack may see far "
        "more.",
        example="The attack reaches 16.7 dB, the bound says 46.5 dB on average.",
        action="Take no comfort from the attack; run the thorough effort.",
    ),
    "below-mean": Flag(
        title="Below the mean image",
        meaning="The reconstruction is further from the patient than the mean public X-ray, which "
        "every attacker has: the attack failed.",
        example="The reconstruction has 7.3 dB, the mean public X-ray 18.1 dB.",
        action="Use the standard adversary; such a figure says nothing of the defence.",
    ),
    "null-as-good": Flag(
        title="Null as good as real",
        meaning="The reconstruction is as near to patients whom it did not come from: what it "
        "shows is any chest X-ray.",
        example="18.0 dB beside the patient, 17.6 dB beside strangers on average.",
        action="Count only what is beyond the null.",
    ),
}
"""By name, as in the column ``flags``."""

_HEAD = """# Flags

For everyone who must decide whether a figure can be believed: what to look at before, after the
flags of AutoAttack (Croce and Hein, ICML 2020). A flag is raised by the attacker, who sees the
update alone, or by scoring, which sees the truth as well. It changes no figure: it says why a
figure may not mean what it seems to. Flags stand in the column `flags` of leakage.csv, separated by
semicolons, in the report, and in the last line of a run.

This page is made from `adversary/report/flags.py` by `python -m adversary.report.flags`.
"""


def page() -> str:
    """Return :data:`PAGE` in Markdown: a heading a flag, by its name in the tables."""
    parts = [_HEAD]
    for name, flag in FLAGS.items():
        parts.append(
            f"## {name}\n\n**{flag.title}.** {flag.meaning}\n\n"
            f"*For example:* {flag.example}\n\n*What to do:* {flag.action}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
