"""What a report cites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adversary.attacks import ATTACKS
from adversary.common.plugins import PluginError

CITATIONS = (
    "Federated averaging: McMahan, Moore, Ramage, Hampson and Agüera y Arcas, AISTATS 2017",
    "SSIM: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13 (2004)",
    "LPIPS: Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018",
    "RDLV: Hatamizadeh et al., IEEE Transactions on Medical Imaging 42 (2023)",
    "FFT-2D: Dao and Lee, IEEE Internet of Things Journal 2025",
    "Standard adversary and flags: this project, after AutoAttack (Croce and Hein, ICML 2020)",
    "Bound: van Trees, Detection, Estimation, and Modulation Theory, part I, section 2.4 (1968)",
    "Regulation (EU) 2016/679 (GDPR), Article 35; EDPB, Opinion 28/2024",
)
"""Metrics, bounds and law, a line each."""


@dataclass(frozen=True)
class Method:
    """An attack as the report names it."""

    name: str
    title: str
    reference: str


def cited_methods(names: Iterable[str]) -> list[Method]:
    """Return title and source of each attack by name; a plugin that is not here has none."""
    found = []
    for name in sorted(set(names)):
        try:
            attack = ATTACKS[name]
        except (KeyError, PluginError):
            found.append(Method(name, "", ""))
        else:
            found.append(Method(name, attack.title, attack.reference))
    return found


def named(members: Iterable[str]) -> list[Method]:
    """Return title and source of those members of an ensemble that are attacks of their own."""
    return [method for method in cited_methods(members) if method.title]
