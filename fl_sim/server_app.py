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
from flwr.serverapp import Grid, ServerApp

from adversary.attacks.adversary import Adversary
from adversary.common.errors import UserError, one_line_error
from adversary.common.seeding import derive_seed
from adversary.observation.observation import View
from adversary.report.ledger import Ledger
from adversary.report.run_info import FEWEST_FOR_AUC
from adversary.storage.run_folder import RunFolder, one_line_io_errors
from fl_sim import loggers, run_metadata
from fl_sim.adversary_setup import make_attacks
from fl_sim.client_names import client_name, client_number
from fl_sim.federation import Federation, build_federation
from fl_sim.models import checkpoints
from fl_sim.models.freezing import load_trainable, trainable_state_dict
from fl_sim.progress import report_progress
from fl_sim.rounds import resume
from fl_sim.rounds.client_discovery import discover_clients
from fl_sim.rounds.controller import RoundController
from fl_sim.rounds.early_stopping import pace_of
from fl_sim.rounds.server_state import ServerState, set_random_states
from fl_sim.settings.parse import parse
from fl_sim.settings.schema import Settings
from fl_sim.settings.unread import refuse_unread
from fl_sim.training.evaluation import evaluate
from fl_sim.workers.ray_queue import RayQueue, in_ray_cluster
from strategies.grids.ordered import OrderedGrid
from strategies.grids.polling import PollingGrid
from strategies.honest_but_curious import HonestButCurious
from strategies.honest_but_curious_secagg import HonestButCuriousSecAgg
from strategies.replies import LEFT_OUT
from strategies.strategy_state import load_state_dict
from strategies.wrappers.learning_rate import LearningRateSchedule
from strategies.wrappers.reply_validation import ReplyValidation
from strategies.wrappers.run_log import RunLog

app = ServerApp()

OBSERVERS: dict[View, type[HonestButCurious]] = {
    "client": HonestButCurious,
    "aggregate": HonestButCuriousSecAgg,
}
"""Who attacks, by what the server receives."""


class IncompleteReportError(UserError, RuntimeError):
    """Training went well, but not all of it could be written; one line."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes."""
    settings = parse(context.run_config)
    refuse_unread(settings)
    serve(grid, settings)


def serve(grid: Grid, settings: Settings) -> Path:
    """Train, attack and report as the settings say; return the path of the report.

    Raises
    ------
    ValueError, RuntimeError
        With a line for each mistake where the run cannot go on. Its folder then tells so too.
    """
    make_attacks(settings)  # mistakes in their options should not wait for the clients
    loggers.makers(settings)
    path = Path(settings.out).absolute()
    folder = resume.open_for_resume(settings) if settings.resume else RunFolder(path)
    with resume.run_lock(folder):
        if not settings.resume:
            RunFolder.create(path, title=path.name)
        try:
            ledger = _serve(grid, settings, folder)
        except KeyboardInterrupt:
            folder.finish("stopped")
            raise
        except Exception as error:
            folder.finish("failed", one_line_error(error))
            raise
    if ledger.errors:
        raise IncompleteReportError(f"the report is not complete: {ledger.errors[0]}")
    folder.state.unlink(missing_ok=True)
    report = folder.path / "report.html"
    report_progress(f"report: {report}")
    return report


def _serve(grid: Grid, settings: Settings, folder: RunFolder) -> Ledger:
    report_progress("waiting for the clients")
    partitions = discover_clients(grid, settings.clients, tell=report_progress)
    run = build_federation(dataclasses.replace(settings, resume=False), len(partitions))
    for line in run.splits.private.notes:
        report_progress(line)
    snapshot = _rewound(run, folder) if settings.resume else None
    if not settings.resume:
        folder.update(**run_metadata.describe(run))
    run_metadata.note_missing(folder, run)
    if settings.adversary.identify and (why := run.why_not_identified):
        report_progress(f"nobody is looked for by name: {why}")
    # What attacks beside the training writes the updates itself.
    record = settings.adversary.record and not in_ray_cluster()
    ledger = run.ledger(folder, loggers.create(settings, folder), record=record)
    names = {node: client_name(number) for node, number in partitions.items()}
    course = RoundController(pace_of(settings), folder, snapshot.progress if snapshot else None)
    strategy = _strategy(run, ledger, names, course)
    report_progress(
        f"{settings.rounds} rounds with {len(names)} clients, {len(run.splits.private)} private "
        f"and {len(run.splits.public)} public X-rays of '{run.splits.private.name}'"
    )
    if line := run_metadata.privacy(run):
        report_progress(line)
    _seed_everything(derive_seed(settings.seed, "server"))
    arrays, rounds = ArrayRecord(trainable_state_dict(run.model())), settings.rounds
    if snapshot is not None:
        report_progress(f"going on after round {snapshot.round}")
        strategy.resume(snapshot.round, snapshot.took_part)
        load_state_dict(strategy, snapshot.memory)
        set_random_states(snapshot.random)
        _put_again(strategy, folder)
        arrays, rounds = snapshot.arrays, snapshot.round if course.stopped else rounds
    strategy.start(
        OrderedGrid(run.defence.grid(_watched(grid, strategy)), list(names)),
        arrays,
        num_rounds=rounds,
        evaluate_fn=_evaluation(run, folder),
    )
    return ledger


def _rewound(run: Federation, folder: RunFolder) -> ServerState | None:
    """Take a folder back to the last round that is done; None if there is none."""
    resume.check(run)
    snapshot = ServerState.load(folder.state) if folder.state.exists() else None
    folder.rewind(snapshot.round if snapshot else 0)
    return snapshot


def _strategy(
    run: Federation, ledger: Ledger, names: dict[int, str], course: RoundController
) -> RunLog:
    guarded = ReplyValidation(
        run.defence.strategy(run.strategy(), clients=run.clients_per_round), client_names=names
    )
    paced = LearningRateSchedule(guarded, course.rate)

    def goes_on(round: int, arrays: ArrayRecord, row: Mapping[str, float | None]) -> bool:
        if isinstance(strategy, HonestButCurious):
            strategy.queue.flush()  # the round is done for good after this
        return course.after_round(round, arrays, row, strategy)

    common: dict[str, Any] = {
        "ledger": ledger,
        "client_names": names,
        "spent": _spent(run),
        "goes_on": goes_on,
    }
    strategy: RunLog
    if run.settings.adversary.enabled:
        adversary = run.adversary()
        strategy = OBSERVERS[run.defence.view](
            *(paced, adversary, run.recipe),
            threat=run.threat_model,
            queue=_queue(run, adversary, ledger) if in_ray_cluster() else None,
            select=run.clients_to_attack,
            tell=report_progress,
            **common,
        )
    else:
        strategy = RunLog(paced, **common)
    return strategy


def _queue(run: Federation, adversary: Adversary, ledger: Ledger) -> RayQueue:
    """Return what attacks beside the training; it keeps the updates, where they are kept."""
    wanted = run.settings.adversary
    return RayQueue(
        *(adversary, ledger.scorer, run.threat_model, ledger.folder),
        keep=wanted.record,
        workers=wanted.workers,
        cpus=wanted.num_cpus,
        gpus=wanted.num_gpus,
        limit=wanted.queue_limit,
    )


def _watched(grid: Grid, strategy: RunLog) -> Grid:
    """Return a grid that writes what attacks have found while clients train."""
    return PollingGrid(grid, strategy.drain) if isinstance(strategy, HonestButCurious) else grid


def _put_again(strategy: RunLog, folder: RunFolder) -> None:
    """Attack the updates that were waiting when the run ended."""
    if not isinstance(strategy, HonestButCurious):
        return
    waiting = folder.unattacked(strategy.adversary.names)
    if isinstance(strategy.queue, RayQueue):
        strategy.expect_waiting((one.stem, attack) for one in waiting for attack in waiting[one])
        for update, attacks in waiting.items():
            strategy.queue.resubmit(update, attacks)
    elif waiting:
        report_progress(
            f"{len(waiting)} updates wait: fl-sim attack {folder.path} --missing attacks them"
        )


def _spent(run: Federation) -> Callable[[str, int], dict[str, Any] | None]:
    """Return what tells a client's privacy account after a number of rounds."""

    def spent(client: str, rounds: int) -> dict[str, Any] | None:
        number = client_number(client)
        account = None if number is None else run.account(number, rounds)
        return None if account is None else dataclasses.asdict(account)

    return spent


def _evaluation(
    run: Federation, folder: RunFolder
) -> Callable[[int, ArrayRecord], MetricRecord | None]:
    """Return the central evaluation of a round, which also tells of it and keeps the model.

    There is no evaluation where there are no images, or the clients keep a part of the model.
    """
    images = run.evaluation_set()
    model = run.model()
    whole = not run.defence.personal(model.state_dict())

    def evaluate_centrally(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        load_trainable(model, arrays.to_torch_state_dict())
        if run.settings.checkpoints:
            path = folder.checkpoint(server_round)
            with one_line_io_errors(path):
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
        told = " · ".join(
            f"{name} {value:.3f}"
            for name, value in metrics.items()
            if name != "auc" or len(images) >= FEWEST_FOR_AUC
        )
        metrics[LEFT_OUT] = found.left_out
        if server_round:
            rounds = run.settings.rounds
            report_progress(
                f"round {server_round}/{rounds} · {told} ({run.evaluation_split} images)"
            )
        return MetricRecord(metrics)  # type: ignore[arg-type]

    return evaluate_centrally


def _seed_everything(seed: int) -> None:
    """Seed the global generators: Flower samples clients, and draws noise, from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (Flower's own noise comes from there)
    torch.manual_seed(seed)
