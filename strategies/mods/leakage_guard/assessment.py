"""What an attack on an update gets, beside the truth: the hospital has it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adversary.attacks.adversary import Adversary
from adversary.attacks.standard import Standard
from adversary.common.errors import one_line_error
from adversary.common.results import AttackResult
from adversary.common.torch_state import limited_threads, preserved_rng_state
from adversary.common.truth import Truth
from adversary.identification import Gallery, identify
from adversary.observation.observation import Observation
from adversary.observation.threat_model import ThreatModel
from adversary.optim.search import Limits
from adversary.priors.public import Prior
from adversary.scoring.image_scores import ImageScore, score_images


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateData:
    """The X-rays behind an update, and others of the house; they never leave it.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) in [0, 1], as the network was given them: all that were trained on in the
        round, and no others.
    labels : Tensor
        (N,) class indices or (N, L) multi-hot.
    held_out : Prior
        X-rays with labels that were never trained on, in the same form: what the attacker knows
        of X-rays in general, and whom identification must not name.
    """

    images: Tensor
    labels: Tensor
    held_out: Prior

    @property
    def truth(self) -> Truth:
        """The images for scoring, named by their place."""
        names = tuple(str(place) for place in range(len(self.images)))
        return Truth(images=self.images, labels=self.labels, names=names)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The worst that was found of an update; None where a figure could not be had.

    Parameters
    ----------
    psnr : float or None
        In dB, of the reconstruction nearest to its X-ray.
    null_psnr : float or None
        In dB, of that reconstruction beside X-rays that had no part in the update.
    rdlv : float or None
        The largest relative data leakage value.
    expected_psnr : float or None
        The most that the attacker expects, in dB.
    named : float or None
        Share of the X-rays named at a false discovery rate of 5 %.
    certificate, member : str
        What the attacker states, and which of its attacks gave the pictures.
    seconds : float
        That it all took.
    faults : tuple of str
        What failed, or was cut off by the time; each in a line.
    """

    psnr: float | None = None
    null_psnr: float | None = None
    rdlv: float | None = None
    expected_psnr: float | None = None
    named: float | None = None
    certificate: str = ""
    member: str = ""
    seconds: float = 0.0
    faults: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether the attack came to an end, so that its figures are all that it can do."""
        return not self.faults


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessor:
    """Attacks updates of one hospital.

    Parameters
    ----------
    model : nn.Module
        The architecture; not changed.
    seconds : float
        For the attack, and for the identification.
    identification : bool
        Whether a share that is not known is a fault.
    seed : int
        Of all that is drawn.
    """

    model: nn.Module
    seconds: float
    identification: bool
    seed: int = 0

    def assess(
        self, observation: Observation, threat: ThreatModel, data: PrivateData
    ) -> Assessment:
        """Return what an attacker with ``threat`` gets; it does not raise for a failed attack."""
        began = time.monotonic()
        adversary = Adversary(
            self.model,
            image_shape=tuple(data.images.shape[1:]),  # type: ignore[arg-type]
            attacks=[Standard(effort="quick")],
            prior=data.held_out,
            seed=self.seed,
            limits=Limits(seconds=self.seconds),
        )
        [result] = adversary.run_attacks(observation, threat)
        figures = self._scored(result, data)
        named, fault = self._named(observation, threat, data)
        faults = [*_faults(result), *([fault] if fault and self.identification else [])]
        return Assessment(
            **figures, named=named, faults=tuple(faults), seconds=time.monotonic() - began
        )

    def _scored(self, result: AttackResult, data: PrivateData) -> dict[str, Any]:
        found = result.reconstruction
        if found is None:
            return {}
        candidates = torch.cat([data.images, data.held_out.images])
        scores = score_images(found, data.truth, prior=data.held_out, candidates=candidates)
        nearest = max((s for s in scores if s.psnr is not None), key=_psnr, default=None)
        return {
            "psnr": None if nearest is None else nearest.psnr,
            "null_psnr": None if nearest is None else nearest.null_psnr,
            "rdlv": _largest(s.rdlv for s in scores),
            "expected_psnr": _largest(found.expected_psnr or ()),
            "certificate": found.certificate or "",
            "member": found.member,
        }

    def _named(
        self, observation: Observation, threat: ThreatModel, data: PrivateData
    ) -> tuple[float | None, str]:
        """Return the share of the X-rays that can be named, or why it is not known."""
        ends = time.monotonic() + self.seconds

        def within_time(share: float) -> None:
            if time.monotonic() > ends:
                raise TimeoutError(f"cut off after {self.seconds:g} s at {share:.0%}")

        gallery = Gallery(images=data.images, labels=data.labels, names=data.truth.names)
        try:
            with preserved_rng_state(), limited_threads(1):
                found = identify(
                    *(observation, threat, self.model, gallery, data.held_out),
                    seed=self.seed,
                    progress=within_time,
                )
        except Exception as error:  # whatever it is, the hospital decides what follows
            return None, f"identification: {one_line_error(error)}"
        return float(found.named.double().mean()), ""


def _faults(result: AttackResult) -> list[str]:
    found = result.reconstruction
    if found is None:
        return [f"attack: {result.failure or 'failed'}"]
    return ["attack: cut off by the time"] if found.stopped == "seconds" else []


def _psnr(score: ImageScore) -> float:
    assert score.psnr is not None
    return score.psnr


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
