"""What a change of weights gives away: two checkpoints in, reconstructions out, no federation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adversary.attacks.adversary import Adversary
from adversary.common.convert import Value
from adversary.common.errors import UserError, one_line_error
from adversary.common.truth import Truth
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.optim.search import Progress
from adversary.priors.public import Prior
from adversary.report.ledger import Ledger
from adversary.scoring.scorer import Scorer
from adversary.storage.run_folder import RunFolder
from fl_sim import adversary_setup, defences, run_metadata
from fl_sim.data.client import ClientImages, images_of_client, public_xrays, with_class_numbers
from fl_sim.defences import Defence
from fl_sim.federation import dataset_request, recipe_from
from fl_sim.models import Classifier
from fl_sim.models.freezing import freeze, trainable_state_dict
from fl_sim.offline import checkpoint_pair as pair
from fl_sim.offline.checkpoint_pair import AuditError
from fl_sim.progress import report_progress
from fl_sim.settings.derived import device
from fl_sim.settings.layers import overlay
from fl_sim.settings.parse import parse
from fl_sim.settings.schema import Settings
from fl_sim.settings.unread import AUDIT_PASSES_OVER, refuse_unread_changes

CLIENT, MEAN = "client", "mean"
"""Whose update it is, in the report: one client's, or the mean of several."""


class AuditFailedError(UserError, RuntimeError):
    """No attack came to a reconstruction; a line for each reason."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything that an audit needs; made by :func:`prepare`.

    Parameters
    ----------
    settings : Settings
        All that is not in the other fields.
    title : str
        What is audited, for the report.
    model : Classifier
        The architecture, frozen as it was trained.
    observation : Observation
        The update.
    defence : Defence
        What the client did to it.
    prior : Prior
        The attacker's public X-rays.
    images : ClientImages, optional
        What went into it, where that is known.
    """

    settings: Settings
    title: str
    model: Classifier
    observation: Observation
    defence: Defence
    prior: Prior
    images: ClientImages | None

    def truth(self) -> Truth | None:
        """Return the images behind the update, for scoring alone."""
        if self.images is None:
            return None
        used = self.images.used
        return Truth(images=used.tensor(range(len(used))), labels=used.labels, names=used.names)

    def threat(self) -> ThreatModel:
        """Return what the attacker knows beyond the update: the defence, and any oracle."""
        truth = self.truth() if self.settings.adversary.labels_known else None
        return ThreatModel(
            labels=None if truth is None else truth.labels,
            channel=self.channel() if self.settings.adversary.defence_known else Channel(),
        )

    def channel(self) -> Channel:
        """Return what the defence tells of one client's update; of a mean of several, nothing."""
        alone = self.observation.view == "client"
        return self.defence.channel(self.observation) if alone else Channel()


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What an audit is told besides settings.

    Parameters
    ----------
    indices : sequence of int, optional
        Which images of the data set these are, from 0; by default all of them.
    normalise : (float, float), optional
        Mean and standard deviation by which the model was given its images, of values in
        [0, 1]; by default as the project's own models do.
    overwrite : bool
        Whether the files of an earlier run at ``out`` are removed.
    """

    indices: Sequence[int] | None = None
    normalise: tuple[float, float] | None = None
    overwrite: bool = False


def audit(
    init: str,
    trained: str,
    changes: Mapping[str, Value] | None = None,
    options: AuditOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Attack the change from one checkpoint to another and write it up as a run's folder.

    Parameters
    ----------
    init, trained : str
        The weights before and after training: safetensors, what ``torch.save`` wrote, or the
        folder of a run with ``checkpoints = true``, maybe with ``@`` and a round (by default 0
        and 1). Of a run, the settings too are taken.
    changes : mapping, optional
        Settings that differ, flat. With ``data.name`` or ``data.path`` among them the images
        behind the update are known, and what is reconstructed is scored.
    options : AuditOptions, optional
        What else it is told.
    progress : callable, optional
        Told the share of an attack that is done.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    ValueError
        For whatever the user can put right; a line each.
    AuditFailedError
        If no attack came to an end; the report says so too.
    """
    options = options or AuditOptions()
    posed = prepare(init, trained, changes, options)
    adversary = adversary_setup.make_adversary(posed.settings, posed.model, posed.prior)
    folder = RunFolder.create(
        Path(posed.settings.out).absolute(),
        overwrite=options.overwrite,
        **_describe(posed, adversary),
    )
    ledger = _ledger(posed, folder)
    try:
        _run(posed, adversary, ledger, progress)
    except KeyboardInterrupt:
        ledger.close("stopped")
        raise
    except Exception as error:
        ledger.close("failed", one_line_error(error))
        raise
    failures = [one["reason"] for one in folder.info()["failures"]]
    nothing = len(failures) == len(adversary.attacks)
    ledger.close(*("failed", failures[0]) if nothing else ("completed",))
    if nothing or ledger.errors:
        raise AuditFailedError("\n".join(failures if nothing else ledger.errors))
    return folder.path / "report.html"


def prepare(
    init: str,
    trained: str,
    changes: Mapping[str, Value] | None = None,
    options: AuditOptions | None = None,
) -> Audit:
    """Read and check all that :func:`audit` needs; its arguments, and what it raises."""
    changes, options = changes or {}, options or AuditOptions()
    before = pair.read(f"--init {init}", init, 0)
    after = pair.read(f"--trained {trained}", trained, 1)
    given = overlay(pair.DEFAULTS, pair.settings_from_run(before, after), changes)
    given = pair.with_inferred_channels_and_loss(given, before)
    pair.require_known(given, before)
    settings = parse(given)
    refuse_unread_changes(settings, changes, "fl-sim audit", AUDIT_PASSES_OVER)
    device(settings)
    known = bool({"data.name", "data.path"} & changes.keys())
    images = _images(settings, options.indices, known=known)
    number = None if images is None else len(images.used)
    sizes = pair.client_sizes(settings, after, number, told="clients" not in changes)
    if "local.batch-size" not in given and images is not None:
        settings = pair.with_batch_size(settings, max(sizes.values()))
    defence = defences.create(settings.defence.name, settings.defence.options)
    start, end = (
        pair.model_of(one, settings, defence, options.normalise) for one in (before, after)
    )
    settings = pair.with_freezing(settings, start, end, after, chosen="local.freeze" in given)
    for model in (start, end):
        freeze(model, settings.local.freeze)
    if images is not None:
        used = with_class_numbers(images.used, start.head.out_features, settings.model.loss)
        images = dataclasses.replace(images, used=used)
    recipe = defence.recipe(recipe_from(settings))
    observation = _observation((start, end), sizes, recipe, after.round or 1)
    pair.check_number(observation, number)
    pair.warn_if_inconsistent(observation, settings)
    return Audit(
        settings=settings,
        title=f"{init} to {trained}",
        model=start,
        observation=observation,
        defence=defence,
        prior=_prior(settings, images),
        images=images,
    )


def _observation(
    models: tuple[Classifier, Classifier],
    sizes: dict[str, int],
    recipe: TrainingRecipe,
    round: int,
) -> Observation:
    """Return what the models before and after training show of clients of these sizes."""
    several = len(sizes) > 1
    sent, returned = map(trainable_state_dict, models)
    return Observation(
        round=round,
        client=MEAN if several else CLIENT,
        sent=sent,
        returned=returned,
        num_examples=sum(sizes.values()),
        recipe=recipe,
        view="aggregate" if several else "client",
        members=sizes if several else {},
    )


def parse_indices(text: str) -> list[int]:
    """Return the numbers of ``0,3,5-9``, in this order.

    Raises
    ------
    AuditError
        If it is not of this kind, or names a number twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise AuditError(f"--indices {text}: must be like 0,3,5-9")
        numbers += range(int(first), int(last) + 1)
    if len(set(numbers)) < len(numbers):
        raise AuditError(f"--indices {text}: names an image twice")
    return numbers


def parse_normalisation(text: str) -> tuple[float, float]:
    """Return the mean and standard deviation of ``0.5,0.25``.

    Raises
    ------
    AuditError
        If it is not of this kind.
    """
    try:
        mean, std = map(float, text.split(","))
    except ValueError:
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise AuditError(f"--normalise {text}: must be MEAN,STD with STD > 0, e.g. 0.5,0.25")
    return mean, std


def _images(
    settings: Settings, indices: Sequence[int] | None, *, known: bool
) -> ClientImages | None:
    """Return the images behind the update where they are known."""
    if not known and indices is not None:
        raise AuditError("--indices: of which images? --images names the file")
    if not known and settings.adversary.labels_known:
        raise AuditError("adversary.labels-known = True: needs the images, by --images")
    if not known:
        return None
    request = dataclasses.replace(dataset_request(settings), num_images=0, test_fraction=0)
    return images_of_client(request, indices)


def _prior(settings: Settings, images: ClientImages | None) -> Prior:
    if images is not None:
        return Prior(images.public)
    return Prior(public_xrays(settings.data.image_size, settings.data.channels))


def _describe(posed: Audit, adversary: Adversary) -> dict[str, object]:
    """Return the entries of run.json."""
    settings, images = posed.settings, posed.images
    data: dict[str, object] = {}
    if images is not None:
        used = images.used
        data = {
            "name": used.name,
            "attribution": used.attribution,
            "synthetic": used.synthetic,
            "label_names": used.label_names,
            "private": len(used),
            "public": len(images.public),
        }
    known = settings.adversary.labels_known
    return {
        "title": posed.title,
        "audit": True,
        **run_metadata.environment(settings, adversary.device),
        "data": data,
        "clients": dict(posed.observation.members) or {CLIENT: posed.observation.num_examples},
        "candidates": None if images is None else len(images.candidates),
        "threat": {
            "view": posed.observation.view,
            "labels_known": known,
            "defence_known": settings.adversary.defence_known,
        },
        "oracles": ["labels known"] if known else [],
    }


def _ledger(posed: Audit, folder: RunFolder) -> Ledger:
    truth = posed.truth()
    scorer = Scorer(
        truth=None if truth is None else lambda _: truth,
        prior=posed.prior,
        candidates=None if posed.images is None else posed.images.candidates,
        bound=adversary_setup.make_bound(
            posed.settings, posed.model, posed.prior, lambda _: posed.channel()
        ),
        threads=posed.settings.adversary.num_cpus,
    )
    return Ledger(folder, scorer=scorer, record=posed.settings.adversary.record)


def _run(posed: Audit, adversary: Adversary, ledger: Ledger, progress: Progress | None) -> None:
    """Run every attack, and write down what comes of it."""
    observation = posed.observation
    for line in posed.images.used.notes if posed.images else ():
        report_progress(line)
    ledger.record_observation(observation)
    trained = [p for p in posed.model.parameters() if p.requires_grad]
    weights = sum(p.numel() for p in trained)
    report_progress(
        f"{posed.settings.model.name} · {weights:,} weights · {pair.describe_count(observation)}"
    )
    outcomes = adversary.run_attacks(observation, posed.threat(), progress=progress)
    for done, outcome in enumerate(outcomes, 1):
        verdict = ledger.record_result(observation, outcome) or outcome.failure or "done"
        report_progress(
            f"attack {done}/{len(adversary.attacks)} · {outcome.attack} · {verdict} · "
            f"{outcome.seconds:.0f} s"
        )
