"""The name that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

CUTOFF = 0.45
"""Similarity, in [0, 1], from which a name is near enough to be offered."""


def did_you_mean(
    word: str, known: Iterable[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return ``"; did you mean NAME?"`` to end a message with; empty where no name is near.

    Other words for a name, and a name without the section that it stands in, win over spelling.

    Parameters
    ----------
    word : str
        What was given.
    known : iterable of str
        What would have been right; dotted where names stand in sections.
    synonyms : mapping of str to sequence of str, optional
        Usual words for a name that its spelling does not come near, in lower case with hyphens.
    """
    synonyms = synonyms or {}
    names = list(dict.fromkeys([*known, *synonyms]))
    bare = _bare(word)
    same = [name for name in names if bare in (_bare(name), *synonyms.get(name, ()))]
    close = same if len(same) == 1 else difflib.get_close_matches(word, names, 1, CUTOFF)
    return f"; did you mean {close[0]}?" if close else ""


def _bare(word: str) -> str:
    """Return the last part of a dotted name, in lower case with hyphens."""
    return word.strip().lower().replace("_", "-").rpartition(".")[2]
