"""A hospital: trains on its own X-rays, and lets its defence change what leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from adversary.seeding import derive_seed, generator
from fl_sim.assembly import Assembly, assemble
from fl_sim.defences import LocalUpdate
from fl_sim.freezing import load_shared, shared
from fl_sim.models import Classifier
from fl_sim.settings import SettingsError, parse
from fl_sim.training import evaluate

PARTITION, PARTITIONS = "partition-id", "num-partitions"
NUM_EXAMPLES = "num-examples"

app = ClientApp()


@app.query()
def tell_partition(message: Message, context: Context) -> Message:
    """Tell which partition this node has; wrong settings show here, before any training."""
    parse(context.run_config)
    number, clients = _place(context)
    metrics = MetricRecord({PARTITION: number, PARTITIONS: clients})
    return Message(RecordDict({"partition": metrics}), reply_to=message)


@app.train()
def train_model(message: Message, context: Context) -> Message:
    """Return the model after local training, as the defence lets it leave."""
    run, number = _run(context)
    settings, part = run.settings, run.parts[number]
    config = message.content.config_records["config"]
    server_round = int(config["server-round"])  # type: ignore[arg-type]
    mu = float(config.get("proximal-mu", 0.0))  # type: ignore[arg-type]

    model = _model(run, message)
    sent = {name: value.clone() for name, value in shared(model).items()}
    inputs = run.inputs(server_round, number)
    batches = run.batches(server_round, number)
    torch.manual_seed(derive_seed(settings.seed, "training", server_round, number))  # dropout
    with _one_thread():
        loss = run.defence.train(
            model,
            inputs,
            part.labels,
            run.recipe,
            batches,
            device=run.device,
            proximal_mu=mu,
            generator=generator(settings.seed, "defended training", server_round, number),
        )
        used = run.used(server_round, number)
        returned = run.defence.apply(
            LocalUpdate(
                sent=sent,
                returned={name: v.detach().cpu() for name, v in shared(model).items()},
                model=model,
                recipe=run.recipe,
                images=inputs[used],
                labels=part.labels[used],
            ),
            generator=generator(settings.seed, "defence", server_round, number),
        )
    metrics = MetricRecord({"loss": loss, NUM_EXAMPLES: len(part)})
    content = RecordDict({"arrays": ArrayRecord(returned), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate_model(message: Message, context: Context) -> Message:
    """Return the loss of the global model on this client's own X-rays."""
    run, number = _run(context)
    part = run.parts[number]
    with _one_thread():
        result = evaluate(
            _model(run, message),
            part.tensor(range(len(part))),
            part.labels,
            run.recipe.loss,
            device=run.device,
        )
    metrics = MetricRecord(
        {"loss": result.loss, "accuracy": result.accuracy, NUM_EXAMPLES: result.num_examples}
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, for the sake of the same sums on every machine and engine.

    Clients run side by side where there are more cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _place(context: Context) -> tuple[int, int]:
    """Return the number of this node's partition, and of how many."""
    try:
        return int(context.node_config[PARTITION]), int(context.node_config[PARTITIONS])
    except KeyError as error:
        raise SettingsError(
            f"node config: {error.args[0]} is missing; a SuperNode needs --node-config "
            f"'{PARTITION}=0 {PARTITIONS}=4'"
        ) from error


def _run(context: Context) -> tuple[Assembly, int]:
    number, clients = _place(context)
    return assemble(parse(context.run_config), clients), number


def _model(run: Assembly, message: Message) -> Classifier:
    """Return the model with the weights that the server sent."""
    model = run.model()
    load_shared(model, message.content.array_records["arrays"].to_torch_state_dict())
    return model
