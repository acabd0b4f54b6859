"""A hospital: trains on its own X-rays, and lets its defence change what leaves."""

from __future__ import annotations

import math

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from adversary.common.seeding import derive_seed, generator
from adversary.common.torch_state import limited_threads
from fl_sim.data import XrayDataset
from fl_sim.defences import LocalUpdate
from fl_sim.federation import Federation, build_federation
from fl_sim.models import Classifier
from fl_sim.models.freezing import load_trainable, trainable_state_dict
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError
from fl_sim.training.evaluation import Evaluation, evaluate
from strategies.messages import recipe_from_config
from strategies.replies import AUC, HELD_OUT_AUC, HELD_OUT_LOSS, LEFT_OUT, NUM_EXAMPLES

PARTITION, PARTITIONS = "partition-id", "num-partitions"
PERSONAL = "personal"
"""Where a client keeps the arrays that do not leave it."""

THREADS = 1
"""For the sake of the same sums on every machine and engine; clients run side by side."""

app = ClientApp()


@app.query()
def tell_partition(message: Message, context: Context) -> Message:
    """Reply with this node's partition id; fail early on wrong settings."""
    parse(context.run_config)
    number, clients = _place(context)
    metrics = MetricRecord({PARTITION: number, PARTITIONS: clients})
    return Message(RecordDict({"partition": metrics}), reply_to=message)


def by_defence(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Train and answer through the defence's mod, where it has one."""
    run, _ = _run(context)
    mod = run.defence.client_mod()
    return call_next(message, context) if mod is None else mod(message, context, call_next)


@app.train(mods=[by_defence])
def train_model(message: Message, context: Context) -> Message:
    """Return the model after local training, as the defence lets it leave."""
    run, number = _run(context)
    settings, part = run.settings, run.parts[number]
    config = message.content.config_records["config"]
    server_round = int(config["server-round"])  # type: ignore[arg-type]
    recipe = recipe_from_config(run.recipe, config)

    model = _model(run, message)
    sent = {name: value.clone() for name, value in trainable_state_dict(model).items()}
    _make_personal(model, context)
    inputs = run.training_inputs(server_round, number)
    batches = run.batches(server_round, number)
    torch.manual_seed(derive_seed(settings.seed, "training", server_round, number))  # dropout
    rounding = derive_seed(settings.seed, "rounding", server_round, number)
    np.random.seed(rounding % 2**32)  # noqa: NPY002 (SecAgg+ rounds by it)
    with limited_threads(THREADS):
        loss = run.defence.train(
            model.to(run.device),
            inputs,
            part.labels,
            recipe,
            batches,
            generator=generator(settings.seed, "defended training", server_round, number),
        )
        used = run.used_indices(server_round, number)
        trained = {name: v.detach().cpu() for name, v in model.state_dict().items()}
        returned = run.defence.apply(
            LocalUpdate(
                sent=sent,
                returned={name: trained[name] for name in sent},
                model=model,
                recipe=recipe,
                images=inputs[used],
                labels=part.labels[used],
            ),
            generator=generator(settings.seed, "defence", server_round, number),
        )
    if personal := run.defence.personal(trained):
        context.state[PERSONAL] = ArrayRecord({name: trained[name] for name in personal})
    metrics = MetricRecord({NUM_EXAMPLES: len(part)})
    if run.defence.reports_losses:
        metrics["loss"] = loss
    content = RecordDict({"arrays": ArrayRecord(returned), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate_model(message: Message, context: Context) -> Message:
    """Return how the model does on this client's validation X-rays, if the defence lets it.

    Without a validation share those are the X-rays that it trains on; a client that has none to
    validate on answers with zeros for none. Where clients keep a part of the model, the server
    has no whole one to evaluate: then also how this client's does on the X-rays that the server
    would evaluate on.
    """
    run, number = _run(context)
    part, model = run.validation[number], _model(run, message)
    if not run.defence.reports_losses:
        metrics = MetricRecord({NUM_EXAMPLES: len(run.parts[number])})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)
    _make_personal(model, context)
    with limited_threads(THREADS):
        metrics = _metrics(run, model, part)
        if run.defence.personal(model.state_dict()) and len(run.evaluation_set()):
            held_out = _evaluate(run, model, run.evaluation_set())
            metrics[HELD_OUT_LOSS] = held_out.loss
            if held_out.auc is not None:
                metrics[HELD_OUT_AUC] = held_out.auc
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _metrics(run: Federation, model: Classifier, part: XrayDataset) -> MetricRecord:
    """Return the client's metrics of a model, with the same keys for every client.

    Flower averages them by the number of images, so what is of no image has no weight.
    """
    if not len(part):
        return MetricRecord({"loss": 0.0, "accuracy": 0.0, AUC: 0.0, LEFT_OUT: 0, NUM_EXAMPLES: 0})
    found = _evaluate(run, model, part)
    return MetricRecord(
        {
            "loss": found.loss,
            "accuracy": found.accuracy,
            AUC: math.nan if found.auc is None else found.auc,
            LEFT_OUT: found.left_out,
            NUM_EXAMPLES: len(part),
        }
    )


def _evaluate(run: Federation, model: Classifier, images: XrayDataset) -> Evaluation:
    everything = images.tensor(range(len(images)))
    return evaluate(model, everything, images.labels, run.recipe.loss, device=run.device)


def _place(context: Context) -> tuple[int, int]:
    """Return the number of this node's partition, and of how many."""
    try:
        return int(context.node_config[PARTITION]), int(context.node_config[PARTITIONS])
    except KeyError as error:
        raise SettingsError(
            f"node config: {error.args[0]} is missing; a SuperNode needs --node-config "
            f"'{PARTITION}=0 {PARTITIONS}=4'"
        ) from error


def _run(context: Context) -> tuple[Federation, int]:
    number, clients = _place(context)
    return build_federation(parse(context.run_config), clients), number


def _model(run: Federation, message: Message) -> Classifier:
    """Return the model with the weights that the server sent."""
    model = run.model()
    load_trainable(model, message.content.array_records["arrays"].to_torch_state_dict())
    return model


def _make_personal(model: Classifier, context: Context) -> None:
    """Put the arrays that this client kept in place of those that the server sent."""
    if PERSONAL in context.state:
        kept = context.state.array_records[PERSONAL].to_torch_state_dict()
        model.load_state_dict(kept, strict=False)
