"""Candidates among whom an update's patients are looked for.

In a simulation who trained is known here, and stays here: the attacker gets X-rays in an order
drawn by the seed. Of candidates in a file nobody knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.identification import Gallery
from adversary.observation.observation import Observation
from fl_sim.client_names import client_number
from fl_sim.data import DataError, XrayDataset
from fl_sim.data.client import images_of_client, with_class_numbers
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings

if TYPE_CHECKING:
    from fl_sim.federation import Federation


class Galleries:
    """Of each update: all who train with its hospitals in this run, and others.

    Rounds of one hospital have the same gallery, so that they can be joined. Others are patients of
    other hospitals, those that train in no round, and those held out for testing.

    Parameters
    ----------
    run : Federation
        The simulation.
    others : int
        Patients beside those who train, each with all X-rays; 0 is all that there are.

    Attributes
    ----------
    members_known : bool
        Whether scoring may say who of the candidates took part.
    """

    members_known: ClassVar[bool] = True

    def __init__(self, run: Federation, others: int) -> None:
        self.run = run
        self.others = others
        self._places: dict[tuple[str, ...], Tensor] = {}

    def of(self, observation: Observation) -> Gallery:
        """Return the gallery of an update."""
        clients = tuple(observation.members) or (observation.client,)
        if clients not in self._places:
            self._places[clients] = self._drawn(clients)
        return gallery(self._sets, self._places[clients])

    @property
    def _sets(self) -> tuple[XrayDataset, XrayDataset]:
        return self.run.splits.private, self.run.splits.test

    @property
    def patients(self) -> dict[str, str]:
        """Whose each X-ray is, by name."""
        return {
            name: patient
            for part in self._sets
            for name, patient in zip(part.names, part.patients, strict=True)
        }

    def _drawn(self, clients: Sequence[str]) -> Tensor:
        """Return which X-rays of private and test ones are asked for, in random order."""
        trained = self._trained(clients)
        names = [name for part in self._sets for name in part.names]
        patients = [patient for part in self._sets for patient in part.patients]
        inside = {p for p, name in zip(patients, names, strict=True) if name in trained}
        others = sorted(set(patients) - inside)
        seed = self.run.settings.seed
        draw = generator(seed, "candidates", *clients)
        order = torch.randperm(len(others), generator=draw)
        chosen = {others[i] for i in order[: self.others or None].tolist()}
        places = [
            place
            for place, (patient, name) in enumerate(zip(patients, names, strict=True))
            if name in trained or patient in chosen
        ]
        return torch.tensor(places)[torch.randperm(len(places), generator=draw)]

    def _trained(self, clients: Iterable[str]) -> set[str]:
        """Return the names of the X-rays that clients train on in any round of the run."""
        found: set[str] = set()
        for number in map(client_number, clients):
            if number is None or number >= len(self.run.parts):
                continue
            part, used = self.run.parts[number], set[int]()
            for round in range(1, self.run.settings.rounds + 1):
                used.update(self.run.used_indices(round, number))
                if len(used) == len(part):
                    break
            found |= {part.names[i] for i in used}
        return found


class GivenCandidates:
    """The X-rays of a folder or table, for every update; who of them trained nobody knows.

    Parameters
    ----------
    run : Federation
        Whose updates are searched.
    path : str
        Folder, archive or CSV file with labels, as ``data.path`` of the data set ``folder``.
    """

    members_known: ClassVar[bool] = False

    def __init__(self, run: Federation, path: str) -> None:
        self._found = labelled_as(run, _read(run.settings, path))
        self._gallery = gallery([self._found], torch.arange(len(self._found)))

    def of(self, observation: Observation) -> Gallery:
        """Return the gallery, the same for all updates."""
        return self._gallery

    @property
    def patients(self) -> dict[str, str]:
        """Whose each X-ray is, by name."""
        return dict(zip(self._found.names, self._found.patients, strict=True))


def _read(settings: Settings, path: str) -> XrayDataset:
    """Return the X-rays of a folder or table, as those of the run are prepared."""
    request = DatasetRequest(
        name="folder",
        path=path,
        image_size=settings.data.image_size,
        channels=settings.data.channels,
        num_images=0,
        public=0,
        test_fraction=0.0,
        seed=settings.seed,
    )
    try:
        return images_of_client(request).used
    except DataError as error:
        raise SettingsError(f"adversary.candidates: {error}") from error


def labelled_as(run: Federation, found: XrayDataset) -> XrayDataset:
    """Return X-rays with labels as the run counts them: by their names where it has these."""
    names = run.splits.private.label_names
    if found.labels.ndim == 1 and set(found.label_names) <= set(names):
        places = torch.tensor([names.index(name) for name in found.label_names])
        return dataclasses.replace(found, labels=places[found.labels], label_names=names)
    return with_class_numbers(found, run.model().head.out_features, run.settings.model.loss)


def gallery(sets: Sequence[XrayDataset], places: Tensor) -> Gallery:
    """Return the X-rays at ``places`` of several data sets, one after the other."""
    names = [name for part in sets for name in part.names]
    images = torch.cat([part.images for part in sets])[places]
    return Gallery(
        images=images.float().div_(255),
        labels=torch.cat([part.labels for part in sets])[places],
        names=tuple(names[place] for place in places.tolist()),
    )
