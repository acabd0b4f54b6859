"""Who was in the recorded updates of a run: named among candidates, without Flower or Ray.

What a run does beside its training, done again: the attacker has an update, the public X-rays, and
a gallery of candidates with their labels; only scoring knows who trained. Of candidates in a file
nobody knows, so that scores and p-values are all that comes out.
"""

from __future__ import annotations

from pathlib import Path

from adversary.common.errors import UserError, one_line_error
from adversary.common.torch_state import limited_threads
from adversary.identification import IdentificationResult, Identifier, check_public
from adversary.observation.observation import Observation, ObservationError, UpdateKey
from adversary.report import run_page
from adversary.report.ledger import Ledger
from adversary.scoring.identification_scores import ScoredIdentification
from adversary.scoring.scorer import Scorer
from adversary.storage.names import round_of
from adversary.storage.run_folder import RunFolder
from fl_sim.federation import Federation, build_federation
from fl_sim.galleries import GivenCandidates
from fl_sim.progress import report_progress
from fl_sim.rounds.resume import run_lock
from fl_sim.settings.parse import parse
from strategies.time_left import TimeLeft


class IdentificationRunError(UserError, ValueError):
    """A run in whose updates nobody can be looked for; one line."""


def identify_run(path: Path, *, candidates: str = "") -> Path:
    """Look for candidates in every recorded update of a run; return identification.csv.

    With the candidates of the run itself the same comes out as in the run. Rows of all rounds of a
    client joined have no round. A run in ``sensitive`` mode gets no candidates.csv.

    Parameters
    ----------
    path : Path
        The run's folder.
    candidates : str
        Folder or CSV file of X-rays to look for, as ``data.path`` of a folder; by default those
        who trained, and as many others as ``adversary.candidates`` of the run says.

    Raises
    ------
    ValueError
        If there is no run, it recorded nothing, or a file cannot be read; one line.
    """
    folder = RunFolder.open(path)
    with run_lock(folder):
        info = folder.info()
        if not folder.recorded_updates():
            raise IdentificationRunError(
                f"{path} holds no recorded updates: run with adversary.record = true to keep them"
            )
        if not isinstance(info.get("settings"), dict):
            raise IdentificationRunError(f"{path}: run.json holds no settings")
        settings = parse(info["settings"])
        run = build_federation(settings, settings.clients)
        check_public(run.prior())
        among = GivenCandidates(run, candidates) if candidates else run.galleries
        scorer = run.scorer() if not candidates else Scorer(patients=among.patients)
        identifier = Identifier(
            run.model(),
            candidates=among.of,
            public=run.prior(),
            seed=settings.seed,
            seconds=settings.adversary.seconds or None,
        )
        _identify(folder, run, identifier, Ledger(folder, scorer=scorer))
    return folder.path / "identification.csv"


def _identify(folder: RunFolder, run: Federation, identifier: Identifier, ledger: Ledger) -> None:
    updates = folder.recorded_updates()
    folder.identified.clear()
    countdown = TimeLeft()
    countdown.begin()
    countdown.expect((update.stem, IdentificationResult.attack) for update in updates)
    for update in updates:
        report_progress(f"identify {countdown.position()} · {update.parent.name} · {update.stem}")
        try:
            observation = Observation.load(update)
        except ObservationError as error:  # the others go on
            where = UpdateKey(round_of(update), update.stem)
            failed = IdentificationResult(seconds=0.0, failure=one_line_error(error))
            scored = ScoredIdentification(outcome=failed)
        else:
            where = UpdateKey(observation.round, observation.client)
            with limited_threads(run.settings.adversary.num_cpus):
                found = identifier.run(observation, run.threat_model(observation))
            scored = ledger.scorer.score_identification(observation, found)
        verdict = ledger.record_result(where, scored)
        report_progress(countdown.finished(*where, scored.outcome, verdict))
    ledger.sum_up_identification()
    run_page.render(folder)
    if ledger.errors:
        raise IdentificationRunError(f"the report is not complete: {ledger.errors[0]}")
