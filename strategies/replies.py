"""What a train reply carries, and what can be wrong with it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from numpy.typing import NDArray

Decoded = dict[str, NDArray[Any]]
"""Arrays by name, as they come out of a message."""

NUM_EXAMPLES = "num-examples"
"""Flower's key for the number of images behind a reply, by which clients are weighted."""

AUC, LEFT_OUT = "auc", "auc-left-out"
"""A client's AUC on its own images, NaN where undefined, and how many classes it leaves out."""

HELD_OUT_LOSS, HELD_OUT_AUC = "held-out-loss", "held-out-auc"
"""What clients tell in evaluation where each has a model of its own and the server has none."""

LONGEST_REASON = 300

LONGEST_HEADER = 1024
"""Bytes that an array may take beyond its values."""

# Flower's simulation wraps an error twice: the kind and text of what reached it, and in the text,
# after a traceback, what the ClientApp raised.
_SIMULATED = re.compile(r"<class '(?:.*\.)?(?P<kind>\w+)(?:\(.*\))?'>:<'(?P<text>.*)'>$", re.DOTALL)
_RAISED = "Exception ClientAppException occurred. Message: "


def arrays_of(content: RecordDict) -> ArrayRecord:
    """Return the one ArrayRecord of a message.

    Raises
    ------
    ValueError
        If there is not exactly one.
    """
    records = list(content.array_records.values())
    if len(records) != 1:
        raise ValueError(f"carries {len(records)} array records, not 1")
    return records[0]


def num_examples(content: RecordDict, key: str = NUM_EXAMPLES) -> int:
    """Return the number of images behind a reply.

    Parameters
    ----------
    content : RecordDict
        Of the reply.
    key : str
        The metric that tells it where there is none of Flower's own name.

    Raises
    ------
    ValueError
        If it is missing, or not a number of at least 1.
    """
    records = list(content.metric_records.values())
    if len(records) != 1:
        raise ValueError(f"carries {len(records)} metric records, not 1")
    key = NUM_EXAMPLES if NUM_EXAMPLES in records[0] else key
    number = records[0].get(key)
    if not isinstance(number, int | float) or not math.isfinite(number) or number < 1:
        raise ValueError(f"{key} is {number!r}; it must be a number >= 1")
    return int(number)


_validated: WeakKeyDictionary[Message, tuple[ArrayRecord, ArrayRecord, str | None]] = (
    WeakKeyDictionary()
)
"""What was wrong with the arrays of a reply: several strategies ask, and large models take time."""


def validation_error(reply: Message, sent: ArrayRecord, key: str = NUM_EXAMPLES) -> str | None:
    """Return why a train reply is invalid, in one line, or None.

    Arrays that were not sent back are no fault here: an app may share a part of its model.
    ``key`` is as for :func:`num_examples`.
    """
    if (reason := _not_a_train_reply(reply, key)) is not None:
        return reason
    returned = arrays_of(reply.content)
    known = _validated.get(reply)
    if known is None or known[0] is not returned or known[1] is not sent:
        known = _validated[reply] = returned, sent, _read(returned, sent, lambda name, array: None)
    return known[2]


def decoded(reply: Message, sent: ArrayRecord, key: str = NUM_EXAMPLES) -> Decoded | None:
    """Return copies of all arrays of a train reply; None where it is no valid one.

    For a large model this takes hardly longer than to ask for the fault, which is known after it.

    Raises
    ------
    Exception
        Where an array cannot be read that was not sent.
    """
    if _not_a_train_reply(reply, key) is not None:
        return None
    returned = arrays_of(reply.content)
    arrays: Decoded = {}
    reason = _read(returned, sent, arrays.__setitem__)
    _validated[reply] = returned, sent, reason
    if reason is not None:
        return None
    return {n: arrays[n] if n in arrays else array.numpy() for n, array in returned.items()}


def _not_a_train_reply(reply: Message, key: str) -> str | None:
    if reply.has_error():
        return f"failed: {failure_message(reply)}"
    try:
        num_examples(reply.content, key)
        arrays_of(reply.content)
    except ValueError as error:
        return str(error)
    return None


def _read(
    returned: ArrayRecord, sent: ArrayRecord, take: Callable[[str, NDArray[Any]], None]
) -> str | None:
    """Hand on each array that was sent and came back; stop at the first fault, and return it."""
    shared = [name for name in sent if name in returned]
    if not shared:
        return "shares no array with the model that was sent"
    for name in shared:
        try:
            array = returned[name].numpy()
        # Bytes of a client can make numpy's reader, and its parser of headers, raise anything.
        except Exception as error:
            return f"{name} cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
        if array.shape != tuple(sent[name].shape):
            return f"{name} has shape {array.shape}, sent {tuple(sent[name].shape)}"
        if (size := len(returned[name].data)) > array.nbytes + LONGEST_HEADER:
            return f"{name} comes in {size} bytes, its values take {array.nbytes}"
        if array.dtype.kind not in "fiubc":
            return f"{name} holds {array.dtype}, no numbers"
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinite values"
        take(name, array)
    return None


def inconsistent_replies(contents: Mapping[int, RecordDict]) -> dict[int, str]:
    """Return the replies whose records or metrics differ from the majority's, and how.

    Flower averages only what is alike in all, and would end the run.
    """
    forms = {node: (_records(content), _metrics(content)) for node, content in contents.items()}
    if not forms:
        return {}
    (records, metrics), _ = Counter(forms.values()).most_common(1)[0]
    odd = {}
    for node, (named, told) in forms.items():
        if named != records:
            odd[node] = f"names its records {_list(named)}; most name {_list(records)}"
        elif told != metrics:
            odd[node] = f"tells {_list(told)}; most tell {_list(metrics)}"
    return odd


def _records(content: RecordDict) -> tuple[str, ...]:
    return tuple(sorted([*content.array_records, *content.metric_records]))


def _metrics(content: RecordDict) -> tuple[str, ...]:
    """Return the names of the metrics, those of several values with their number."""
    return tuple(
        sorted(
            f"{name} ({len(value)} values)" if isinstance(value, list) else name
            for record in content.metric_records.values()
            for name, value in record.items()
        )
    )


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)[:LONGEST_REASON] or "none"


def _lost_process(kind: str, text: str) -> str:
    # Flower puts a dead process back into its pool, where it may fail clients that are well.
    died = kind.endswith(("DiedError", "CrashedError", "OutOfMemoryError"))
    return f"the process it was given to died ({kind})" if died else f"{kind}: {text}"


def failure_message(reply: Message) -> str:
    """Return on one line what a failed client, or the process it ran in, said."""
    text = reply.error.reason or ""
    if simulated := _SIMULATED.match(text):
        _, raised, said = simulated["text"].rpartition(_RAISED)
        text = (
            said
            if raised
            else _lost_process(simulated["kind"], simulated["text"].partition("\n")[0])
        )
    return " ".join(text.split())[:LONGEST_REASON].rstrip(".") or f"error code {reply.error.code}"
