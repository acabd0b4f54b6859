"""The server: global model, strategy, adversary, rounds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

from adversary.adversary import Adversary, in_one_line
from adversary.report.ledger import Ledger
from adversary.report.run_folder import RunFolder, writing
from adversary.seeding import derive_seed
from fl_sim import about, checkpoints, loggers, resume
from fl_sim.assembly import Assembly, assemble
from fl_sim.attacker import attacks
from fl_sim.course import Course
from fl_sim.freezing import load_shared, shared
from fl_sim.ordered_grid import OrderedGrid
from fl_sim.pace import pace_of
from fl_sim.progress import say
from fl_sim.ray_queue import RayQueue, in_ray
from fl_sim.roll_call import roll_call
from fl_sim.settings import Settings, parse
from fl_sim.snapshot import Snapshot, set_random_states
from fl_sim.training import evaluate
from fl_sim.truth import client_name, client_number
from strategies import choices
from strategies.bookkeeping import Bookkeeping
from strategies.curious_aggregator import CuriousAggregator
from strategies.guarded import Guarded
from strategies.honest_but_curious import HonestButCurious
from strategies.memory import recall
from strategies.paced import Paced
from strategies.replies import LEFT_OUT
from strategies.secure_aggregation import SecureAggregationGrid
from strategies.watched_grid import WatchedGrid

app = ServerApp()


class IncompleteReportError(RuntimeError):
    """Training went well, but not all of it could be written; one line."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes."""
    serve(grid, parse(context.run_config))


def serve(grid: Grid, settings: Settings) -> Path:
    """Train, attack and report as the settings say; return the path of the report.

    Raises
    ------
    ValueError, RuntimeError
        With a line for each mistake where the run cannot go on. Its folder then tells so too.
    """
    attacks(settings)  # mistakes in their options should not wait for the clients
    loggers.makers(settings)
    path = Path(settings.out).absolute()
    folder = resume.reopen(settings) if settings.resume else RunFolder(path)
    with resume.only_writer(folder):
        if not settings.resume:
            RunFolder.create(path, title=path.name)
        try:
            ledger = _serve(grid, settings, folder)
        except KeyboardInterrupt:
            folder.finish("stopped")
            raise
        except Exception as error:
            folder.finish("failed", in_one_line(error))
            raise
    if ledger.errors:
        raise IncompleteReportError(f"the report is not complete: {ledger.errors[0]}")
    folder.state.unlink(missing_ok=True)
    report = folder.path / "report.html"
    say(f"report: {report}")
    return report


def _serve(grid: Grid, settings: Settings, folder: RunFolder) -> Ledger:
    say("waiting for the clients")
    partitions = roll_call(grid, settings.clients, tell=say)
    run = assemble(dataclasses.replace(settings, resume=False), len(partitions))
    for line in run.splits.private.notes:
        say(line)
    snapshot = _rewound(run, folder) if settings.resume else None
    if not settings.resume:
        folder.update(**about.describe(run))
    about.note_missing(folder, run)
    # What attacks beside the training writes the updates itself.
    record = settings.adversary.record and not in_ray()
    ledger = run.ledger(folder, loggers.create(settings, folder), record=record)
    names = {node: client_name(number) for node, number in partitions.items()}
    course = Course(pace_of(settings), folder, snapshot.progress if snapshot else None)
    strategy = _strategy(run, ledger, names, course)
    say(
        f"{settings.rounds} rounds with {len(names)} clients, {len(run.splits.private)} private "
        f"and {len(run.splits.public)} public X-rays of '{run.splits.private.name}'"
    )
    _seed_everything(derive_seed(settings.seed, "server"))
    arrays, rounds = ArrayRecord(shared(run.model())), settings.rounds
    if snapshot is not None:
        say(f"going on after round {snapshot.round}")
        strategy.resume(snapshot.round, snapshot.took_part)
        recall(strategy, snapshot.memory)
        set_random_states(snapshot.random)
        _put_again(strategy, folder)
        arrays, rounds = snapshot.arrays, snapshot.round if course.stopped else rounds
    strategy.start(
        OrderedGrid(_channel(run, _watched(grid, strategy)), list(names)),
        arrays,
        num_rounds=rounds,
        evaluate_fn=_evaluation(run, folder),
    )
    return ledger


def _rewound(run: Assembly, folder: RunFolder) -> Snapshot | None:
    """Take a folder back to the last round that is done; None if there is none."""
    resume.check(run)
    snapshot = Snapshot.load(folder.state) if folder.state.exists() else None
    folder.rewind(snapshot.round if snapshot else 0)
    return snapshot


def _strategy(run: Assembly, ledger: Ledger, names: dict[int, str], course: Course) -> Bookkeeping:
    wanted = run.settings.strategy
    plain = choices.create(
        wanted.name,
        clients=len(names),
        fraction=wanted.fraction,
        evaluate_fraction=wanted.evaluate_fraction,
        proximal_mu=wanted.proximal_mu,
    )
    guarded = Guarded(run.defence.strategy(plain, clients=run.trained), client_names=names)
    paced = Paced(guarded, course.rate)

    def goes_on(round: int, arrays: ArrayRecord, row: Mapping[str, float | None]) -> bool:
        if isinstance(strategy, HonestButCurious):
            strategy.queue.settle()  # the round is done for good after this
        return course.goes_on(round, arrays, row, strategy)

    common: dict[str, Any] = {
        "ledger": ledger,
        "client_names": names,
        "spent": _spent(run),
        "goes_on": goes_on,
    }
    strategy: Bookkeeping
    if run.settings.adversary.enabled:
        observer = CuriousAggregator if run.defence.secure_aggregation else HonestButCurious
        adversary = run.adversary()
        strategy = observer(
            *(paced, adversary, run.recipe),
            threat=run.threat,
            queue=_queue(run, adversary, ledger) if in_ray() else None,
            select=run.attacked,
            tell=say,
            **common,
        )
    else:
        strategy = Bookkeeping(paced, **common)
    return strategy


def _queue(run: Assembly, adversary: Adversary, ledger: Ledger) -> RayQueue:
    """Return what attacks beside the training; it keeps the updates, where they are kept."""
    wanted = run.settings.adversary
    return RayQueue(
        *(adversary, ledger.scorer, run.threat, ledger.folder),
        keep=wanted.record,
        workers=wanted.workers,
        cpus=wanted.num_cpus,
        gpus=wanted.num_gpus,
        limit=wanted.queue_limit,
    )


def _watched(grid: Grid, strategy: Bookkeeping) -> Grid:
    """Return a grid that writes what attacks have found while clients train."""
    return WatchedGrid(grid, strategy.attend) if isinstance(strategy, HonestButCurious) else grid


def _put_again(strategy: Bookkeeping, folder: RunFolder) -> None:
    """Attack the updates that were waiting when the run ended."""
    if not isinstance(strategy, HonestButCurious):
        return
    names = [attack.name for attack in strategy.adversary.attacks]
    waiting = folder.unattacked(names)
    if isinstance(strategy.queue, RayQueue):
        for update, attacks in waiting.items():
            strategy.queue.put_again(update, attacks)
    elif waiting:
        say(f"{len(waiting)} updates wait: fl-sim attack {folder.path} --missing attacks them")


def _spent(run: Assembly) -> Callable[[str, int], dict[str, Any] | None]:
    """Return what tells a client's privacy account after a number of rounds."""

    def spent(client: str, rounds: int) -> dict[str, Any] | None:
        number = client_number(client)
        account = None if number is None else run.account(number, rounds)
        return None if account is None else dataclasses.asdict(account)

    return spent


def _channel(run: Assembly, grid: Grid) -> Grid:
    """Return the grid by which updates travel: through SecAgg+ where that is the defence."""
    if not run.defence.secure_aggregation:
        return grid
    return SecureAggregationGrid(grid, SecAggPlusWorkflow(**run.defence.describe()))  # type: ignore[arg-type]


def _evaluation(
    run: Assembly, folder: RunFolder
) -> Callable[[int, ArrayRecord], MetricRecord | None]:
    """Return the central evaluation of a round, which also tells of it and keeps the model.

    There is no evaluation where there are no images, or the clients keep a part of the model.
    """
    images = run.evaluation_set()
    model = run.model()
    whole = not run.defence.personal(model.state_dict())

    def evaluate_centrally(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        load_shared(model, arrays.to_torch_state_dict())
        if run.settings.checkpoints:
            path = folder.checkpoint(server_round)
            with writing(path):
                checkpoints.write(path, model)
        if not (whole and len(images)):
            return None
        found = evaluate(
            model,
            images.tensor(range(len(images))),
            images.labels,
            run.recipe.loss,
            device=run.device,
        )
        metrics = {"loss": found.loss, "accuracy": found.accuracy}
        if found.auc is not None:
            metrics["auc"] = found.auc
        told = " · ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        metrics[LEFT_OUT] = found.left_out
        if server_round:
            rounds = run.settings.rounds
            say(f"round {server_round}/{rounds} · {told} ({run.evaluated_on} images)")
        return MetricRecord(metrics)  # type: ignore[arg-type]

    return evaluate_centrally


def _seed_everything(seed: int) -> None:
    """Seed the global generators: Flower samples clients, and draws noise, from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (Flower's own noise comes from there)
    torch.manual_seed(seed)
