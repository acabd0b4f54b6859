"""Score attack results against the ground truth, which no attack sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from adversary.bounds.cramer_rao import BoundResult
from adversary.bounds.fisher_information import BoundError
from adversary.common.errors import one_line_error
from adversary.common.results import AttackResult, Pictures, Reconstruction
from adversary.common.torch_state import limited_threads, preserved_rng_state
from adversary.common.truth import Truth
from adversary.identification.identifier import IdentificationResult
from adversary.observation.observation import Observation, ObservationError
from adversary.priors.public import Prior
from adversary.scoring.identification_scores import ScoredIdentification, candidate_scores
from adversary.scoring.image_scores import ImageScore, score_images
from adversary.scoring.metrics import load_lpips
from adversary.scoring.verdict import Evidence, certificate_of, severity_of, worst_of


@dataclass(frozen=True, kw_only=True)
class ScoredResult:
    """An attack's outcome beside the truth.

    Parameters
    ----------
    outcome : Outcome
        What the attack gave.
    scores : tuple of ImageScore, optional
        One a true image; None where the truth is not known or the attack failed.
    truths : Tensor, optional
        (T, C, H, W), the true images.
    without_images : bool
        Whether no image went into the update, so that there is nothing to score.
    bound : Bound, optional
        What no attacker should beat.
    no_bound : str
        Why there is none where one was asked for.
    fault : str
        What went wrong in scoring, where something did.
    drawn : Pictures, optional
        Its pictures, where they were drawn with it.
    trials : mapping of int to tuple of ImageScore
        The same of each trial that there are pictures of.
    """

    outcome: AttackResult
    scores: tuple[ImageScore, ...] | None = None
    truths: Tensor | None = None
    without_images: bool = False
    bound: BoundResult | None = None
    no_bound: str = ""
    fault: str = ""
    drawn: Pictures | None = None
    trials: Mapping[int, Sequence[ImageScore]] = field(default_factory=dict)

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB over the images that have one."""
        known = [one.psnr for one in self.scores or () if one.psnr is not None]
        return sum(known) / len(known) if known else None

    @property
    def verdict(self) -> str:
        """What came of the attack in a few words; without the truth, what the attacker states."""
        found = self.outcome.reconstruction
        if self.without_images:
            return "no image went into it"
        if found is None:
            return f"failed: {self.outcome.failure or 'unknown'}"
        certificate = certificate_of(found)
        if self.scores is None:
            return certificate or "done"
        evidence = [Evidence.of({**asdict(s), "certificate": certificate}) for s in self.scores]
        psnrs = [one.psnr for one in self.scores if one.psnr is not None]
        nearest = f"{max(psnrs):.1f} dB" if psnrs else "no figure"
        if len(self.scores) > 1 and self.psnr is not None:
            nearest = f"{len(self.scores)} images, mean {self.psnr:.1f} dB, worst {nearest}"
        return f"{worst_of(map(severity_of, evidence)).label} · {nearest}"


Result = AttackResult | IdentificationResult
"""What came of an attack, or of looking for candidates."""

Scored = ScoredResult | ScoredIdentification
"""The same beside the truth."""


class Scorer:
    """Scores reconstructions against the truth; it can be sent to another process.

    Parameters
    ----------
    truth : callable, optional
        From an observation to the images behind it, or None where they are not known. In a real
        deployment there is none; then nothing is scored.
    prior : Prior, optional
        Public X-rays, the baseline of RDLV.
    candidates : Tensor, optional
        (N, C, H, W), an image for each patient among whom to re-identify; those who had no part
        in an update are its null.
    bound : callable, optional
        From an observation and the truth behind it to what no attacker should beat. It may raise
        :class:`~adversary.bounds.cramer_rao.BoundError`.
    threads : int
        Of the CPU, as of :class:`~adversary.attacks.adversary.Adversary`: the last digits of a
        bound depend on it.
    patients : mapping of str to str, optional
        Whose each X-ray is, by its name; one that is not named is a patient by itself.
    members_known : bool
        Whether the truth tells who of the candidates for identification took part: not of those
        that are somebody else's.
    """

    def __init__(
        self,
        *,
        truth: Callable[[Observation], Truth | None] | None = None,
        prior: Prior | None = None,
        candidates: Tensor | None = None,
        bound: Callable[[Observation, Truth], BoundResult] | None = None,
        threads: int = 1,
        patients: Mapping[str, str] | None = None,
        members_known: bool = True,
    ) -> None:
        self.truth = truth
        self.prior = prior
        self.candidates = candidates
        self.bound = bound
        self.threads = threads
        self.patients = patients or {}
        self.members_known = members_known
        self._bounded: tuple[tuple[int, str], BoundResult | None, str] | None = None

    def missing(self) -> dict[str, str]:
        """Return the columns that cannot be had, and why."""
        if self.truth is None:
            return {}
        _, no_lpips = load_lpips()
        missing = {"lpips": no_lpips} if no_lpips else {}
        return missing if self.bound else {**missing, "bound_psnr": "not asked for"}

    def score_result(self, observation: Observation, outcome: Result) -> Scored:
        """Return what came of an update beside the truth; see :meth:`score`."""
        if isinstance(outcome, AttackResult):
            return self.score(observation, outcome)
        return self.score_identification(observation, outcome)

    def score_identification(
        self, observation: Observation, outcome: IdentificationResult
    ) -> ScoredIdentification:
        """Return what was found of candidates, with who took part."""
        if outcome.found is None:
            return ScoredIdentification(outcome=outcome)
        truth = self.truth(observation) if self.truth and self.members_known else None
        scored = candidate_scores(outcome.found, truth, self.patients)
        return ScoredIdentification(outcome=outcome, scored=scored)

    def score(self, observation: Observation, outcome: AttackResult) -> ScoredResult:
        """Return an attack's outcome with its scores.

        Raises
        ------
        ValueError
            If images, prior or candidates differ in shape.
        """
        truth = self.truth(observation) if self.truth is not None else None
        if truth is not None and not len(truth.images):
            return ScoredResult(outcome=outcome, without_images=True)
        if truth is None or outcome.reconstruction is None:
            return ScoredResult(outcome=outcome)
        with preserved_rng_state(), limited_threads(self.threads):
            bound, no_bound = self._bound_of(observation, truth)
            scores = score_images(
                outcome.reconstruction,
                truth,
                bound_psnr=None if bound is None else bound.psnr,
                oracles=outcome.oracles,
                **self._baselines(),
            )
            trials = self._scores_of_trials(outcome.reconstruction, truth)
        return ScoredResult(
            outcome=outcome,
            scores=tuple(scores),
            truths=truth.images,
            bound=bound,
            no_bound=no_bound,
            trials=trials,
        )

    def _scores_of_trials(self, found: Reconstruction, truth: Truth) -> dict[int, list[ImageScore]]:
        """Return the scores of what each trial came to, the trial that was chosen among them."""
        return {
            trial: score_images(
                replace(found, images=result.images, expected_psnr=None),
                truth,
                **self._baselines(),
            )
            for trial, result in found.results().items()
        }

    def _baselines(self) -> dict[str, Any]:
        """Return what all images of a run are compared with."""
        return {"prior": self.prior, "candidates": self.candidates, "lpips": load_lpips()[0]}

    def _bound_of(self, observation: Observation, truth: Truth) -> tuple[BoundResult | None, str]:
        """Return the bound, found once for all attacks on an update, or why there is none."""
        if self.bound is None:
            return None, ""
        update = (observation.round, observation.client)
        if self._bounded is None or self._bounded[0] != update:
            try:
                self._bounded = update, self.bound(observation, truth), ""
            except (BoundError, ObservationError) as error:
                self._bounded = update, None, one_line_error(error)
        return self._bounded[1:]
