"""What to look at before an evaluation is believed, after AutoAttack's flags.

A flag is raised by the attacker, who sees the update alone, or by scoring, which sees the truth as
well. It never changes a figure; it says why a figure may not mean what it seems to.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One reason for care.

    Parameters
    ----------
    title : str
        In a few words.
    meaning : str
        What was seen, and what it may mean.
    action : str
        What to do about it.
    """

    title: str
    meaning: str
    action: str


FLAGS: dict[str, Flag] = {
    "misfit": Flag(
        title="The update is not explained",
        meaning="The chi-square of the reconstruction lies outside its distribution: the images, "
        "the labels or the model of the channel are wrong.",
        action="Run the thorough effort; check that recipe and defence are as the attacker "
        "was told.",
    ),
    "several-explanations": Flag(
        title="Several explanations",
        meaning="Other images or labels explain the update nearly as well, or were not tried.",
        action="Run the thorough effort; read the reconstruction as one of several.",
    ),
    "time-limit": Flag(
        title="Cut off by a limit",
        meaning="A limit of time or evaluations ended the attack before it had finished.",
        action="Raise adversary.seconds or adversary.effort; what it shows is a lower limit.",
    ),
    "member-failed": Flag(
        title="A member failed",
        meaning="One attack of the ensemble raised an error, gave no number or was stopped; the "
        "others went on.",
        action="Read the note; a plug-in of your own may need mending.",
    ),
    "oracle": Flag(
        title="An oracle was used",
        meaning="The attacker was told something that a server does not have, such as the labels.",
        action="Read the figures as an upper setting, not as what a server reaches.",
    ),
    "channel-not-modelled": Flag(
        title="Defence not modelled",
        meaning="Clipping, compression or noise on the way is not in the attacker's likelihood, "
        "or its level is unknown.",
        action="Tell the attacker of the defence (adversary.defence-known); a failed attack says "
        "nothing of it.",
    ),
    "diverged": Flag(
        title="Local training diverges",
        meaning="The client's local training, simulated by the attacker, runs to no finite "
        "number or away from the update.",
        action="Check learning rate and steps: an update of a diverged training is no evidence.",
    ),
    "recipe-contradicted": Flag(
        title="The update contradicts the recipe",
        meaning="Counters or sizes in the update do not fit the number of steps or images that "
        "the recipe and the client state.",
        action="Check local epochs, batch size, learning rate and num-examples.",
    ),
    "fewer-told": Flag(
        title="Fewer images told than there are",
        meaning="The update determines fewer images than went into it; the others are guesses.",
        action="Read the best image, not the mean; a bound says how much more may be there.",
    ),
    "bound-far-above": Flag(
        title="Bound far above the attack",
        meaning="The bound is 6 dB or more above what was reached: a stronger attack may see far "
        "more.",
        action="Take no comfort from the attack; run the thorough effort.",
    ),
    "below-mean": Flag(
        title="Below the mean image",
        meaning="The reconstruction is further from the patient than the mean public X-ray, which "
        "every attacker has: the attack failed.",
        action="Use the standard adversary; such a figure says nothing of the defence.",
    ),
    "null-as-good": Flag(
        title="Null as good as real",
        meaning="The reconstruction is as near to patients whom it did not come from: what it "
        "shows is any chest X-ray.",
        action="Count only what is beyond the null.",
    ),
}
"""By name, as in the column ``flags``."""
