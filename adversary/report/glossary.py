"""The words of report, comparison and documentation, each explained once."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.scoring.verdict import CLOSE_PSNR, COPY_PSNR, NULL_MARGIN

PAGE = "docs/glossary.md"
"""Where all are explained."""


@dataclass(frozen=True)
class Term:
    """A word, or several for one thing, what is meant by it, and by which it is spotted in text.

    ``spotted`` is a regular expression; empty where the word is never linked.
    """

    words: str
    meaning: str
    spotted: str = ""


GLOSSARY: dict[str, Term] = {
    "update": Term(
        "Update",
        "What a hospital sends to the server after local training: the changed weights of the "
        "model, no X-ray. It is a function of the X-rays, and that is what an attack reverses.",
        spotted=r"updates?",
    ),
    "hospital": Term(
        "Hospital, client",
        "One party that trains on X-rays of its own and sends updates. In tables it has the name "
        "that the software gives it, such as client-00.",
    ),
    "round": Term(
        "Round",
        "The server sends the model, hospitals train on it and send updates, and the server "
        "averages them.",
    ),
    "step": Term(
        "Batch, local step",
        "X-rays that are looked at together, and one change of the weights by them. An update "
        "may be the sum of several steps.",
        spotted=r"larger batches|local steps?",
    ),
    "server": Term(
        "Honest-but-curious server",
        "It follows the protocol and changes nothing, and looks at all that it receives. Every "
        "server can; no hospital would notice.",
    ),
    "verdict": Term(
        "Verdict",
        "What was found for the most revealing X-ray that was examined. An attack is a lower "
        "limit of what leaks and a bound an upper one, so only an upper limit says “protected”.",
    ),
    "psnr": Term(
        "PSNR, dB",
        "Peak signal-to-noise ratio: likeness of a picture to the true X-ray in decibels, higher "
        "is closer; 10 dB more is a tenth of the squared error. From "
        f"{CLOSE_PSNR:g} dB a picture is close, from {COPY_PSNR:g} dB it is a copy. All chest "
        "X-rays look alike: the mean of a few reaches about 19 dB.",
        spotted=r"dB|PSNR",
    ),
    "expected": Term(
        "Expected PSNR",
        "What the attacker itself expects of its picture, from its posterior and without the "
        "truth. Beside the actual PSNR it shows how far its certificates hold.",
    ),
    "certificate": Term(
        "Certificate",
        "What the attacker states without the truth. Proved: the picture explains the update to "
        "its noise, nothing else that was found does, and it tells clearly more than the prior. "
        "Nothing: the posterior is the prior. Open: anything less, and any attack that a limit "
        "cut off.",
        spotted=r"certificate|posterior",
    ),
    "null": Term(
        "Mean X-ray, null",
        "PSNR of the mean public X-ray beside the patient, and of the reconstruction beside "
        "patients that it did not come from, the mean over them: what any chest X-ray scores. A "
        f"picture counts for the patient where it is at least {NULL_MARGIN:g} dB above the null.",
        spotted=r"mean public X-ray",
    ),
    "bound": Term(
        "Bound, proven limit",
        "The PSNR that no attacker is expected to exceed on average, from the noise of the update "
        "and a prior of public X-rays, without running an attack; a single picture may lie a few "
        "dB above it. Only where it leaves nobody more than chance is an X-ray protected.",
        spotted=r"[Bb]ound|Proven limit",
    ),
    "epsilon": Term(
        "ε and δ, differential privacy",
        "A limit on what anyone can conclude about one unit (an X-ray, or all of a hospital), "
        "whatever they know: the probability of any outcome changes by a factor of at most e to "
        "the power of ε between neighbouring data sets, but for a probability δ. Neighbours "
        "differ by one unit that is added, removed or replaced. Above about 10 an ε promises "
        "little; a mechanism without noise earns none.",
        spotted=r"ε|[Dd]ifferential privacy",
    ),
    "ssim": Term("SSIM", "Structural similarity, 1 for identical images."),
    "rdlv": Term(
        "RDLV",
        "Relative data leakage value: how much the SSIM exceeds that of the mean public X-ray, "
        "as a fraction of it. 0 means that the attack shows nothing but a chest X-ray; negative "
        "means less.",
    ),
    "rank": Term(
        "Rank, re-identified",
        "The place of the true patient when all candidates are ordered by correlation with the "
        "reconstruction; re-identified means first. Compare it with chance. A picture with black "
        "and white exchanged that is first once inverted counts too: the label was read wrongly.",
        spotted=r"single out|re-identified",
    ),
    "named": Term(
        "Named, member",
        "Of people whose X-rays are at hand, the server asks who was in the training. The share "
        "named counts members above all but one in a hundred non-members.",
        spotted=r"can name",
    ),
    "lpips": Term(
        "LPIPS",
        "Perceptual distance by a neural network (SqueezeNet), 0 for identical images.",
    ),
    "fft2d": Term(
        "FFT-2D",
        "Similarity of the Fourier spectra, 1 for identical images; about 0.5 for unrelated "
        "images of like brightness.",
    ),
    "score": Term(
        "Own score",
        "The attack’s own objective, lower is a better fit to the update. It is all that a real "
        "attacker has to choose by.",
    ),
    "auc": Term(
        "AUC",
        "How well the trained model tells the sick from the healthy on images that no hospital "
        "trained on: 0.5 is guessing, 1 is perfect.",
    ),
    "defence": Term(
        "Defence",
        "A change to the training or to the update that is to keep patients from view, such as "
        "noise. What it promises, and against whom, is said with each.",
    ),
    "oracle": Term(
        "Oracle",
        "Something that the attacker was told and that a server does not have, such as the true "
        "diagnoses. Figures with one are an upper setting of the attack.",
        spotted=r"oracle",
    ),
    "flag": Term(
        "Flag",
        "A reason to look again before a figure is believed. It changes no figure.",
    ),
    "dpia": Term(
        "DPIA",
        "Data-protection impact assessment (GDPR, Article 35): risks, measures and what risk "
        "remains, judged by the controller with the advice of its officer.",
    ),
}
"""By a word for each, in the order in which they are read."""

_HEAD = """# Glossary

For everyone who reads a report or a comparison: their words, each explained once. The report has
the same list under “How to read it”, and links to it.

This page is made from `adversary/report/glossary.py` by `python -m adversary.report.glossary`.
"""


def page() -> str:
    """Return :data:`PAGE` in Markdown: a heading a term, with an anchor of its own."""
    parts = [_HEAD]
    parts += [f"## {one.words} {{#{slug}}}\n\n{one.meaning}\n" for slug, one in GLOSSARY.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
