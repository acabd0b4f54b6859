"""The folder of a run: every file the federation and its adversary leave behind."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from adversary.common.errors import UserError
from adversary.common.files import atomic_write, private_folder, stale_temporary_files
from adversary.common.results import Files, Pictures, Reconstruction
from adversary.common.types import StateDict
from adversary.identification.identifier import NAME as IDENTIFICATION_NAME
from adversary.observation.observation import SENT, Observation
from adversary.scoring.image_scores import ImageScore, missing_scores
from adversary.scoring.verdict import CUT_OFF_BY, certificate_of, flags_of
from adversary.storage import csv_table, identification_files, picture_files
from adversary.storage.identification_files import IdentificationFiles
from adversary.storage.names import round_folder, round_of, safe_name
from adversary.storage.schemas import (
    ACCOUNTS,
    CLIENTS,
    IDENTIFICATION,
    LEAKAGE,
    MEMBERS,
    ROUNDS,
    TABLES,
    TRIALS,
)

if TYPE_CHECKING:
    import pandas as pd

ALL_ATTACKS = "-"
"""Stands for the attack in the line of an update that no attack could be run on."""

Status = Literal["running", "completed", "failed", "stopped"]

_OWN_FILES = (
    "run.json",
    *TABLES,
    identification_files.TABLE,
    identification_files.BY_CANDIDATE,
    identification_files.FOLDER,
    "state.safetensors",
    "report.html",
    "updates",
    "images",
    "history",
    "checkpoints",
    "loggers",
)


class RunFolderError(UserError, ValueError):
    """A run folder that cannot be made, written or read; the message names what and why."""


class RunExistsError(RunFolderError):
    """There is a run already where one was to be made."""


class RunFolder:
    """A run's folder; made by :meth:`create` or :meth:`open`.

    One process writes; any number may read, at any time.

    run.json holds ``status`` (running, completed, failed or stopped), ``reason`` where it failed,
    ``started``, ``ended`` (UTC, ISO 8601), ``seconds``, ``failures`` (a list of round, client,
    attack and reason), ``without_images`` (a list of round and client: updates that no image went
    into), ``missing`` (for columns that are empty, why), ``resumed`` (a list of when, and after
    which round), and what the caller gives to :meth:`create` and :meth:`update`. The report shows
    ``title``, ``settings``, ``seed``, ``versions``, ``device``, ``revision``, ``threat`` (flags by
    name), ``oracles`` (those that grant more than a server has, in words), ``data`` (with ``name``,
    ``attribution`` and ``synthetic``), ``candidates`` (the number of patients among whom a
    reconstruction was re-identified) and ``bound`` (of the column bound_psnr: ``kind``, ``method``,
    "stochastic" where any was estimated, the largest ``error`` in dB, whether all estimates
    ``converged``, the ``scopes`` of attackers, and the ``subject``; see
    :class:`adversary.bounds.cramer_rao.BoundResult`), and whether it is an ``audit``, with the
    ``clients`` behind it. ``sensitive`` keeps patients out of the report; see
    :mod:`adversary.report.redaction`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._updates = Lock()  # one thread may keep updates while another forgets some
        self._sent: tuple[StateDict, Path] | None = None

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False, **about: Any) -> RunFolder:
        """Make the folder of a new run, readable by its owner alone.

        Parameters
        ----------
        path : str or Path
            Where; missing parents are made.
        overwrite : bool
            Whether the files of an earlier run there are removed; others are left alone.
        **about
            First entries of run.json.

        Raises
        ------
        RunFolderError
            If a run is there already and ``overwrite`` is not set, or the folder cannot be
            written.
        """
        path = Path(path)
        with one_line_io_errors(path):
            there = any((path / name).exists() for name in _OWN_FILES)
        if there and not overwrite:
            raise RunExistsError(
                f"results folder {path} already holds a run; name another or allow overwriting"
            )
        folder = cls(path)
        with one_line_io_errors(path):
            private_folder(path)
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        cls.clear(path)
        folder._write_info(
            {"status": "running", "started": _now(), "failures": [], "missing": {}, **about}
        )
        with one_line_io_errors(path):
            for name, schema in TABLES.items():
                csv_table.create(path / name, schema)
        return folder

    @classmethod
    def create_next_to(cls, path: str | Path, **about: Any) -> RunFolder:
        """Make the folder of a new run; where there is one, ``path-2``, ``path-3`` and so on."""
        first = path = Path(path)
        for number in itertools.count(2):
            try:
                return cls.create(path, **about)
            except RunExistsError:
                path = first.with_name(f"{first.name}-{number}")
        raise AssertionError("unreachable")

    @staticmethod
    def clear(path: Path) -> None:
        """Remove the files of a run from a folder; others are left alone.

        Raises
        ------
        RunFolderError
            If one cannot be removed.
        """
        with one_line_io_errors(path):
            for old in [path / name for name in _OWN_FILES if (path / name).exists()]:
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run, to read it or to go on.

        Raises
        ------
        RunFolderError
            If there is no run.
        """
        folder = cls(path)
        folder.info()
        return folder

    def rewind(self, round: int) -> None:
        """Take the run back to the end of a round, 0 for its beginning, to go on from there.

        What was written of later rounds is removed from tables and run.json, and their updates
        are; their pictures stay until they are written anew.
        """
        for temporary in stale_temporary_files(self.path):
            with one_line_io_errors(temporary):
                temporary.unlink(missing_ok=True)
        for update in self.recorded_updates():
            if round_of(update) > round:
                self.forget_update(update)
        for name in self._tables(TABLES):
            with one_line_io_errors(self.path / name):
                csv_table.remove_after(self.path / name, "round", round)
        with one_line_io_errors(self.path / identification_files.TABLE):
            self.identified.rewind(round)
        about = self.info()
        for kind in ("failures", "without_images"):
            if kind in about:
                about[kind] = [one for one in about[kind] if one["round"] <= round]
        for ending in ("ended", "seconds", "reason"):
            about.pop(ending, None)
        resumed = [*about.get("resumed", []), {"at": _now(), "after_round": round}]
        self._write_info(about | {"status": "running", "resumed": resumed})

    def info(self) -> dict[str, Any]:
        """Return what run.json holds."""
        path = self.path / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path} is not the folder of a run ({error})") from error
        if not isinstance(content, dict):
            raise RunFolderError(f"{self.path} is not the folder of a run (run.json is no table)")
        return content

    def update(self, **about: Any) -> None:
        """Set entries of run.json."""
        self._write_info(self.info() | about)

    def note_missing(self, **reasons: str) -> None:
        """Say why columns are empty, e.g. ``note_missing(lpips="no weights")``."""
        self.update(missing=self.info().get("missing", {}) | reasons)

    def finish(self, status: Status, reason: str = "") -> None:
        """Write the end of the run: its status, time and, if it failed, the reason."""
        started = datetime.fromisoformat(self.info()["started"])
        ended = _now()
        seconds = (datetime.fromisoformat(ended) - started).total_seconds()
        self.update(
            status=status, ended=ended, seconds=seconds, **({"reason": reason} if reason else {})
        )

    def add_round(self, **values: Any) -> None:
        """Append a row to rounds.csv; the columns are :data:`ROUNDS`, missing ones empty."""
        self._append("rounds.csv", ROUNDS, [values])

    def add_clients(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows to clients.csv: how the global model does on clients' own images.

        The columns are :data:`CLIENTS`; ``auc_left_out`` counts the classes that have no AUC.
        """
        self._append("clients.csv", CLIENTS, rows)

    def add_account(self, **values: Any) -> None:
        """Append a row to accounts.csv: what a client has spent after a round it took part in.

        The columns are :data:`ACCOUNTS`; ``rounds`` counts those in which it has taken part.
        """
        self._append("accounts.csv", ACCOUNTS, [values])

    def note_without_images(self, round: int, client: str) -> None:
        """Write to run.json that no image went into an update; once for several attacks."""
        before = self.info().get("without_images", [])
        where = {"round": round, "client": client}
        if where not in before:
            self.update(without_images=[*before, where])

    def add_reconstruction(
        self,
        round: int,
        client: str,
        attack: str,
        reconstruction: Reconstruction,
        scores: Sequence[ImageScore] | None = None,
        drawn: Pictures | None = None,
    ) -> None:
        """Write one attack's pictures, history, and rows of leakage.csv and members.csv, in order.

        Rows of leakage.csv say that an attack is done: a run that is killed after them does not
        attack again, so that no member stands in members.csv twice.

        Parameters
        ----------
        round, client, attack
            Where it was seen and what was run.
        reconstruction : Reconstruction
            What the attack gave.
        scores : sequence of ImageScore, optional
            From :func:`adversary.scoring.image_scores.score_images`; without truth there are none,
            and the rows hold the attacker's own score alone.
        drawn : Pictures, optional
            From :func:`adversary.report.pictures.draw`; by default there are none.
        """
        scores = missing_scores(reconstruction) if scores is None else scores
        drawn = drawn or Pictures({}, {})
        folder = self.images(round, client, attack)
        with one_line_io_errors(folder):
            picture_files.write_files(folder, drawn.images)
            self._save_history(round, client, attack, reconstruction, drawn.process)
        where = {"round": round, "client": client, "attack": attack}
        self._append(
            "leakage.csv",
            LEAKAGE,
            [
                {
                    **{k: v for k, v in dataclasses.asdict(one).items() if k in LEAKAGE},
                    "certificate": certificate_of(reconstruction),
                    "member": reconstruction.member or None,
                    "flags": ";".join(dict.fromkeys((*flags_of(reconstruction), *one.flags))),
                    **where,
                    "seconds": reconstruction.seconds,
                    "evaluations": reconstruction.evaluations,
                    "score": reconstruction.score,
                    "status": "ok",
                    "note": "; ".join(_notes(reconstruction)),
                }
                for one in scores
            ],
        )
        if reconstruction.trials:
            members = [where | dataclasses.asdict(trial) for trial in reconstruction.trials]
            self._append("members.csv", MEMBERS, members)

    def add_trials(
        self,
        round: int,
        client: str,
        attack: str,
        reconstruction: Reconstruction,
        scores: Mapping[int, Sequence[ImageScore]],
    ) -> None:
        """Append rows to trials.csv: what each trial was told, and what came of each image.

        Of the trials of which the attack kept pictures; ``scores`` are theirs, none without truth.
        """
        where = {"round": round, "client": client, "attack": attack}
        self._append("trials.csv", TRIALS, _trials(where, reconstruction, scores))

    def add_failure(self, round: int, client: str, attack: str, reason: str) -> None:
        """Write that an attack failed: a row of leakage.csv, and the reason to run.json."""
        where = {"round": round, "client": client, "attack": attack}
        self.update(failures=[*self.info().get("failures", []), {**where, "reason": reason}])
        self._append("leakage.csv", LEAKAGE, [{**where, "status": "failed"}])

    def forget(self, round: int, client: str, attack: str) -> None:
        """Remove what one attack, or identification, on one update left in tables and failures."""
        if attack == IDENTIFICATION_NAME:
            with one_line_io_errors(self.path):
                self.identified.forget(round, client)
            return
        where = {"round": round, "client": client, "attack": attack}
        failures = self.info().get("failures", [])
        self.update(failures=[one for one in failures if not where.items() <= one.items()])
        for name in self._tables(("leakage.csv", "members.csv", "trials.csv")):
            with one_line_io_errors(self.path / name):
                csv_table.remove(self.path / name, TABLES[name], where)

    def leakage(self) -> pd.DataFrame:
        """Return leakage.csv, typed as :data:`LEAKAGE` says."""
        return self._read("leakage.csv", LEAKAGE)

    def members(self) -> pd.DataFrame:
        """Return members.csv, typed as :data:`MEMBERS` says; empty for a run without the file."""
        return self._read_if_there("members.csv", MEMBERS)

    def trials(self) -> pd.DataFrame:
        """Return trials.csv, typed as :data:`TRIALS` says; empty for a run without the file."""
        return self._read_if_there("trials.csv", TRIALS)

    def rounds(self) -> pd.DataFrame:
        """Return rounds.csv, typed as :data:`ROUNDS` says."""
        return self._read("rounds.csv", ROUNDS)

    def clients(self) -> pd.DataFrame:
        """Return clients.csv, typed as :data:`CLIENTS` says."""
        return self._read("clients.csv", CLIENTS)

    @property
    def identified(self) -> IdentificationFiles:
        """Who can be named; what writes there raises :class:`OSError` as it comes."""
        return IdentificationFiles(self.path)

    def identification(self) -> pd.DataFrame:
        """Return identification.csv, typed as :data:`IDENTIFICATION` says; empty without it."""
        return self._read_if_there(identification_files.TABLE, IDENTIFICATION)

    def accounts(self) -> pd.DataFrame:
        """Return accounts.csv, typed as :data:`ACCOUNTS` says; empty for a run without the file."""
        return self._read_if_there("accounts.csv", ACCOUNTS)

    def images(self, round: int, client: str, attack: str) -> Path:
        """Return the folder of one attack's pictures."""
        return self.path / "images" / round_folder(round) / safe_name(client) / safe_name(attack)

    def mean_xray(self) -> Path:
        """Return the picture of the mean public X-ray, which every attacker has."""
        return self.path / "images" / "mean-public.png"

    def history(self, round: int, client: str, attack: str) -> Path:
        """Return the file of one attack's history."""
        return (
            self.path
            / "history"
            / round_folder(round)
            / safe_name(client)
            / f"{safe_name(attack)}.csv"
        )

    def process(self, round: int, client: str, attack: str) -> Path:
        """Return the folder of the pictures of one attack's process."""
        return self.history(round, client, attack).with_suffix("")

    def checkpoint(self, round: int) -> Path:
        """Return the file of the global model after a round; 0 is before training."""
        return self.path / "checkpoints" / f"{round_folder(round)}.safetensors"

    @property
    def state(self) -> Path:
        """The file from which an unfinished run can go on."""
        return self.path / "state.safetensors"

    def record(self, observation: Observation) -> None:
        """Keep an update; what was sent to several clients of a round is written once."""
        path = self.recorded_update(observation.round, observation.client)
        with self._updates, one_line_io_errors(path):
            there = None
            if self._sent is not None and self._sent[0] is observation.sent:
                there = path.parent / self._sent[1]
            sent = observation.save(path, sent=there)
            self._sent = observation.sent, sent.relative_to(path.parent)

    def recorded_update(self, round: int, client: str) -> Path:
        """Return the file of one recorded observation."""
        return self.path / "updates" / round_folder(round) / f"{safe_name(client)}.safetensors"

    def recorded_updates(self) -> list[Path]:
        """Return the files of all recorded observations, by round and client."""
        return sorted((self.path / "updates").glob("round-*/*.safetensors"))

    def unattacked(self, attacks: Iterable[str]) -> dict[Path, tuple[str, ...]]:
        """Return the updates that are here, each with what is still to be done with it.

        ``attacks`` is what is done with each update, of
        :attr:`~adversary.attacks.adversary.Adversary.names`.
        """
        rows = self.leakage()
        done = {
            (round_folder(at), safe_name(client), attack)
            for at, client, attack in zip(
                rows["round"], rows["client"], rows["attack"], strict=True
            )
        }
        nothing = {
            (round_folder(one["round"]), safe_name(one["client"]))
            for one in self.info().get("without_images", [])
        }
        done |= {(*where, IDENTIFICATION_NAME) for where in self.identified.done()}
        found = {}
        for update in self.recorded_updates():
            where = update.parent.name, update.stem
            if where in nothing or (*where, ALL_ATTACKS) in done:
                continue
            if missing := tuple(a for a in attacks if (*where, a) not in done):
                found[update] = missing
        return found

    def forget_update(self, path: Path) -> None:
        """Remove a recorded update, and its folder if it was the last one there."""
        with self._updates, one_line_io_errors(path):
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            if not any(path.parent.glob("*.json")):
                shutil.rmtree(path.parent / SENT, ignore_errors=True)
            for empty in (path.parent, path.parent.parent):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()

    def sort(self) -> None:
        """Bring what attacks left into the order of rounds, clients and attacks."""
        whose = "round", "client", "attack"
        order_by = {
            "leakage.csv": (*whose, "image"),
            "members.csv": whose,  # of an attack in the order in which they ran
            "trials.csv": (*whose, "trial", "image"),
        }
        for name in self._tables(order_by):
            with one_line_io_errors(self.path / name):
                csv_table.sort(self.path / name, TABLES[name], order_by[name])
        failures = self.info().get("failures", [])
        order = sorted(failures, key=lambda one: (one["round"], one["client"], one["attack"]))
        if order != failures:
            self.update(failures=order)

    def _save_history(
        self,
        round: int,
        client: str,
        attack: str,
        reconstruction: Reconstruction,
        frames: Files,
    ) -> None:
        import pandas as pd  # slow to import

        history = pd.DataFrame(
            reconstruction.history, columns=["restart", "iteration", "score", "seconds"]
        )
        with atomic_write(self.history(round, client, attack)) as temporary:
            history.to_csv(temporary, index=False)
        process = self.process(round, client, attack)
        shutil.rmtree(process, ignore_errors=True)  # of an earlier attack, maybe of more trials
        picture_files.write_files(process, frames)

    def _write_info(self, about: Mapping[str, Any]) -> None:
        with (
            one_line_io_errors(self.path / "run.json"),
            atomic_write(self.path / "run.json") as temporary,
        ):
            text = json.dumps(_plain(about), indent=1, ensure_ascii=False, allow_nan=False)
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))

    def _append(
        self, name: str, schema: csv_table.Schema, rows: Iterable[Mapping[str, object]]
    ) -> None:
        path = self.path / name
        with one_line_io_errors(path):
            if not path.exists():
                csv_table.create(path, schema)
            csv_table.append(path, schema, rows)

    def _tables(self, names: Iterable[str]) -> list[str]:
        """Return the tables that there are: a run of an older version lacks some."""
        return [name for name in names if (self.path / name).exists()]

    def _read_if_there(self, name: str, schema: csv_table.Schema) -> pd.DataFrame:
        import pandas as pd  # slow to import

        if (self.path / name).exists():
            return self._read(name, schema)
        return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in schema.items()})

    def _read(self, name: str, schema: csv_table.Schema) -> pd.DataFrame:
        try:
            return csv_table.read(self.path / name, schema)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunFolderError(f"{self.path / name} cannot be read ({reason})") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _trials(
    where: Mapping[str, object],
    reconstruction: Reconstruction,
    scores: Mapping[int, Sequence[ImageScore]],
) -> Iterator[dict[str, object]]:
    """Yield a row a trial and image: what the trial was told, and what came of it."""
    results = reconstruction.results()
    best = min(results, key=lambda trial: results[trial].score, default=None)
    for trial, result in sorted(results.items()):
        options = dict(reconstruction.options.get(trial, {}))
        about = {
            **where,
            "trial": trial,
            "chosen": trial == best,
            "start": options.pop("start", None),
            "options": ", ".join(f"{name}={value}" for name, value in options.items()),
            "iterations": result.iteration,
            "score": result.score,
        }
        for one in scores.get(trial, missing_scores(reconstruction)):
            yield {k: v for k, v in dataclasses.asdict(one).items() if k in TRIALS} | about


def _notes(reconstruction: Reconstruction) -> tuple[str, ...]:
    """Return what the attack noted, and whether a limit cut it short."""
    if reconstruction.stopped not in CUT_OFF_BY:
        return reconstruction.notes
    return (*reconstruction.notes, f"stopped at its limit of {reconstruction.stopped}")


def _plain(value: Any) -> Any:
    """Return ``value`` in JSON's own types; NaN becomes null, infinities and the rest text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@contextmanager
def one_line_io_errors(path: Path) -> Iterator[None]:
    """Convert OSError into a one-line error that names the path."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror or error}") from error
