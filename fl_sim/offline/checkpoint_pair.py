"""Two checkpoints, and what they and their user tell of the training between them."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from adversary.common.convert import Value
from adversary.common.errors import UserError, UserNotice
from adversary.common.types import StateDict
from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder, RunFolderError
from fl_sim import models
from fl_sim.client_names import client_name
from fl_sim.defences import Defence
from fl_sim.federation import model_spec
from fl_sim.models import Classifier, ModelError, checkpoints, normalisation
from fl_sim.models.checkpoints import CheckpointError
from fl_sim.models.freezing import FROZEN_PARTS, freeze
from fl_sim.models.pretrained import IMAGENET, NORMALISATION
from fl_sim.settings.schema import Settings

DEFAULTS: dict[str, Value] = {
    "local.max-steps": 0,
    "rounds": 1,
    "out": "results/audit",
    "adversary.frames": 8,
}
"""Settings that are not as in a run: all images given are taken to have been used."""

_NEGLIGIBLE = ("none", "secure-aggregation")  # to whoever has the mean
_TOLD_BY_RUN = ("model.", "local.", "defence.", "strategy.", "data.image-size")


class AuditError(UserError, ValueError):
    """Checkpoints that cannot be audited as asked; one line."""


class AuditWarning(UserNotice):
    """One line for the user: what the checkpoints tell that does not fit what was said of them."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights as the user named them.

    Parameters
    ----------
    named : str
        The option and its value, for messages.
    state : dict of str to Tensor
        The arrays.
    run : Path, optional
        The run whose model it is.
    round : int, optional
        After which of its rounds.
    """

    named: str
    state: StateDict
    run: Path | None = None
    round: int | None = None


def read(named: str, text: str, first_round: int) -> Checkpoint:
    """Read what ``--init`` or ``--trained`` names: a file, or RUN or RUN@ROUND.

    Raises
    ------
    AuditError
        If there is no such thing.
    """
    path, round = Path(text).expanduser(), None
    if not path.exists() and "@" in text:
        run, _, number = text.rpartition("@")
        if not number.isdecimal():
            raise AuditError(f"{named}: after the @ belongs a round, a whole number from 0")
        path, round = Path(run).expanduser(), int(number)
        if not path.is_dir():
            raise AuditError(f"{named}: no run's folder at {run}")
    try:
        if not path.is_dir():
            return Checkpoint(named=named, state=checkpoints.read(path))
        round = first_round if round is None else round
        state = checkpoints.read(checkpoints.of_round(path, round))
    except CheckpointError as error:
        raise AuditError(f"{named}: {error}") from error
    return Checkpoint(named=named, state=state, run=path, round=round)


def settings_from_run(before: Checkpoint, after: Checkpoint) -> dict[str, Value]:
    """Return the training run's settings, if the checkpoint is from a run."""
    if after.run is None:
        return {}
    assert after.round is not None
    info = _info(after)
    same = before.run is not None and before.run.samefile(after.run)
    if same and before.round is not None and after.round != before.round + 1:
        raise AuditError(
            f"{after.named}: is the model of round {after.round}, and {before.named} that of "
            f"round {before.round}; an update is that of one round, so must be of round "
            f"{before.round + 1}"
        )
    settings = info.get("settings")
    if not isinstance(settings, dict):
        raise AuditError(f"{after.named}: its run.json holds no settings")
    if settings.get("strategy.name") not in ("fedavg", "fedprox"):
        warnings.warn(
            f"{after.named}: its server did more than average (strategy.name = "
            f"{settings.get('strategy.name')!r}), which is read as the clients' doing",
            AuditWarning,
            stacklevel=2,
        )
    return {key: value for key, value in settings.items() if key.startswith(_TOLD_BY_RUN)}


def _info(checkpoint: Checkpoint) -> dict[str, object]:
    assert checkpoint.run is not None
    try:
        return RunFolder.open(checkpoint.run).info()
    except RunFolderError as error:
        raise AuditError(f"{checkpoint.named}: {error}") from error


def with_inferred_channels_and_loss(
    given: dict[str, Value], before: Checkpoint
) -> dict[str, Value]:
    """Return the settings with what the arrays themselves tell: channels, and one logit's loss."""
    channels = checkpoints.channels(before.state)
    if given.get("data.channels", channels) != channels:
        raise AuditError(
            f"data.channels = {given['data.channels']}: the model of {before.named} takes "
            f"{channels}"
        )
    found = {**given, "data.channels": channels}
    if _outputs(before) == 1:
        found.setdefault("model.loss", "bce")
    return found


def _outputs(checkpoint: Checkpoint) -> int:
    try:
        return checkpoints.outputs(checkpoint.state)
    except CheckpointError as error:
        raise AuditError(f"{checkpoint.named}: {error}") from error


def require_known(given: Mapping[str, Value], before: Checkpoint) -> None:
    """Raise :class:`AuditError` for what files cannot tell and nobody has said."""
    wrong = []
    if "model.name" not in given:
        wrong.append(f"--model: which architecture is it? One of {', '.join(models.MODELS)}")
    if "local.lr" not in given:
        wrong.append("--lr: with which learning rate did the client train? Files do not tell")
    if given.get("model.loss", "cross-entropy") == "cross-entropy" and _outputs(before) == 1:
        wrong.append("model.loss = 'cross-entropy': the model has one output; must be bce")
    if wrong:
        raise AuditError("\n".join(wrong))


def client_sizes(
    settings: Settings,
    after: Checkpoint,
    images: int | None,
    *,
    told: bool,
) -> dict[str, int]:
    """Return how many images each client behind the update has, by name.

    Parameters
    ----------
    settings : Settings
        Say how many clients there are, and how each trains.
    after : Checkpoint
        The trained model; its run, if it is of one, tells its clients.
    images : int, optional
        How many images there are of all together, where they are known.
    told : bool
        Whether the run is to tell, and not ``settings.clients``.
    """
    if after.run is not None and told:
        return _clients_of(after, settings)
    clients = settings.clients or 1
    local = settings.local
    if images is None:
        each = local.batch_size * math.ceil((local.max_steps or local.epochs) / local.epochs)
    elif images % clients:
        raise AuditError(f"clients = {clients}: {images} images are not the same number for each")
    else:
        each = images // clients
    return {client_name(number): each for number in range(clients)}


def _clients_of(checkpoint: Checkpoint, settings: Settings) -> dict[str, int]:
    """Return the number of images of each client of a run."""
    sizes = _info(checkpoint).get("clients")
    if not (isinstance(sizes, dict) and sizes):
        raise AuditError(f"{checkpoint.named}: its run.json does not tell its clients")
    trained = max(1, round(settings.strategy.fraction * len(sizes)))
    if trained < len(sizes):
        warnings.warn(
            f"{checkpoint.named}: {trained} of {len(sizes)} clients trained in a round, nothing "
            "tells which; the first are taken",
            AuditWarning,
            stacklevel=2,
        )
    return dict(list(sizes.items())[:trained])


def with_batch_size(settings: Settings, images: int) -> Settings:
    """Return the settings with mini-batches that use each image once an epoch."""
    local = settings.local
    steps = math.ceil((local.max_steps or local.epochs) / local.epochs)
    size = math.ceil(images / steps)
    return dataclasses.replace(settings, local=dataclasses.replace(local, batch_size=size))


def model_of(
    checkpoint: Checkpoint,
    settings: Settings,
    defence: Defence,
    normalise: tuple[float, float] | None,
) -> Classifier:
    """Return the model with the weights of a checkpoint.

    ``normalise`` is the mean and standard deviation of its input, where they are not its own.

    Raises
    ------
    AuditError
        If the weights do not fit it, or are not finite.
    """
    wanted, data = settings.model, settings.data
    model = models.build(model_spec(settings, _outputs(checkpoint)), norm=wanted.norm)
    if wanted.weights == IMAGENET:
        model.mean, model.std = NORMALISATION
    try:
        normalisation.apply(model, wanted.mean, wanted.std, data.channels)
    except ModelError as error:
        raise AuditError(str(error)) from error
    if normalise is not None:
        model.mean, model.std = normalise
    try:
        checkpoints.load_into(model, checkpoint.state)
    except CheckpointError as error:
        raise AuditError(
            f"{checkpoint.named}: {error} (--model {wanted.name}, data.image-size = "
            f"{data.image_size})"
        ) from error
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise AuditError(f"{checkpoint.named}: {name} holds NaN or infinite values")
    return defence.model(model)


def with_freezing(
    settings: Settings, start: Classifier, end: Classifier, after: Checkpoint, *, chosen: bool
) -> Settings:
    """Return the settings with what was frozen, as the arrays that did not change tell."""
    final = dict(end.named_parameters())
    still = {name for name, value in start.named_parameters() if torch.equal(value, final[name])}
    if len(still) == len(final):
        raise AuditError(
            f"{after.named}: its weights are those of --init, so there is no update to read"
        )
    if chosen:
        frozen = _frozen(start, settings.local.freeze)
        if moved := sorted((frozen or set()) - still):
            raise AuditError(
                f"local.freeze = {settings.local.freeze!r}: {moved[0]} did change from --init to "
                "--trained"
            )
        return settings
    what = next((what for what in FROZEN_PARTS if _frozen(start, what) == still), None)
    if what is None:
        warnings.warn(
            f"{after.named}: {len(still)} of {len(final)} arrays, such as {min(still)}, did not "
            "change; they are read as trained, with a gradient of 0",
            AuditWarning,
            stacklevel=2,
        )
        return settings
    return dataclasses.replace(settings, local=dataclasses.replace(settings.local, freeze=what))


def _frozen(model: Classifier, what: str) -> set[str] | None:
    """Return which parameters are frozen by a choice; None where the model has nothing of it."""
    try:
        frozen = freeze(copy.deepcopy(model), what)
    except ModelError:
        return None
    return {name for name, value in frozen.named_parameters() if not value.requires_grad}


def check_number(observation: Observation, images: int | None) -> None:
    """Raise :class:`AuditError` where the images given are not as many as the update holds."""
    recipe = observation.recipe
    fewest = min(observation.members.values(), default=observation.num_examples)
    if recipe.batch_size > fewest:
        has = "a client has" if observation.members else "there are"
        raise AuditError(
            f"local.batch-size = {recipe.batch_size}: {has} {fewest} images; must be <= {fewest}"
        )
    if images is not None and images != observation.images:
        raise AuditError(
            f"--images: {images} images, and the update holds {describe_count(observation)}; "
            "--indices chooses images, and --steps and --batch-size tell how the client trained"
        )


def describe_count(observation: Observation) -> str:
    """Return in words how many images an update holds."""
    images, steps = observation.images, observation.steps
    clients = f" by each of {len(observation.members)} clients" if observation.members else ""
    return (
        f"{images} image{'s' * (images > 1)} in {steps} step{'s' * (steps > 1)} of "
        f"{observation.recipe.batch_size}{clients}"
    )


def warn_if_inconsistent(observation: Observation, settings: Settings) -> None:
    """Warn if the update contradicts the stated training settings, or resolves too little."""
    for name, value in observation.returned.items():
        if not name.endswith("num_batches_tracked"):
            continue
        counted = round(float(value) - float(observation.sent[name]))
        said = observation.steps if observation.recipe.batch_norm == "train" else 0
        if counted != said:
            warnings.warn(
                f"the models count {counted} batches in training mode between them, and --steps, "
                f"--batch-size and --batch-norm say {said}",
                AuditWarning,
                stacklevel=2,
            )
        break
    if observation.view == "aggregate" and settings.defence.name not in _NEGLIGIBLE:
        warnings.warn(
            f"defence.name = {settings.defence.name!r}: an attacker on a mean of updates makes "
            "nothing of it",
            AuditWarning,
            stacklevel=2,
        )
