from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from hypothesis import example, given

from fl_sim.engines.in_process import InProcessGrid
from strategies.replies import LONGEST_HEADER, LONGEST_REASON, failure_message, validation_error

RAISED = """\
<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::ClientAppActor.run()
  File "client_app.py", line 86, in train
ValueError: out of film

The above exception was the direct cause of the following exception:

flwr.clientapp.client_app.ClientAppException:
Exception ClientAppException occurred. Message: out of film
in both cassettes'>"""
DIED = """\
<class 'ray.exceptions.ActorDiedError'>:<'The actor died before finishing this task.
\tclass_name: ClientAppActor
\tpid: 7'>"""
LATE = "<class 'ray.exceptions.GetTimeoutError'>:<'Get timed out'>"


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (2, RAISED, "out of film in both cassettes"),
        (0, DIED, "the process it was given to died (ActorDiedError)"),
        (0, LATE, "GetTimeoutError: Get timed out"),
        (2, "ValueError: out\nof film", "ValueError: out of film"),
        (5, None, "error code 5"),
        (5, " \n ", "error code 5"),
        (2, "x" * 10_000, "x" * LONGEST_REASON),
    ],
)
def test_what_a_failed_client_said_is_one_line(code, reason, told, foreign):
    grid = InProcessGrid(foreign.App().client_app(), 1)
    question = Message(RecordDict(), next(iter(grid.get_node_ids())), MessageType.TRAIN)
    assert failure_message(Message(Error(code, reason), reply_to=question)) == told


WEIGHT = Array(np.arange(6, dtype=np.float32).reshape(3, 2))
SENT = ArrayRecord({"weight": WEIGHT})


def reply_with(array):
    question = Message(RecordDict(), 1, MessageType.TRAIN)
    metrics = MetricRecord({"num-examples": 1})
    content = RecordDict({"arrays": ArrayRecord({"weight": array}), "metrics": metrics})
    return Message(content, reply_to=question)


@given(place=st.integers(0, len(WEIGHT.data)), data=st.binary(max_size=6), cut=st.integers(0, 200))
@example(place=0, data=b"", cut=200)  # EOFError
@example(place=70, data=b"", cut=9)  # tokenize.TokenError
def test_damaged_bytes_of_an_array_are_a_fault_and_no_error(place, data, cut):
    spoilt = WEIGHT.data[:place] + data + WEIGHT.data[place + cut :]
    array = Array(WEIGHT.dtype, WEIGHT.shape, WEIGHT.stype, spoilt)
    said = validation_error(reply_with(array), SENT)
    if said is None:  # then it is an array of what was sent, if of other values
        found = array.numpy()
        assert (found.shape, found.dtype) == ((3, 2), np.float32)
        assert np.isfinite(found).all()
    else:
        assert "\n" not in said


@pytest.mark.parametrize("kind", ["<U1", "M8[s]", "S1"])
def test_an_array_that_holds_no_numbers_is_a_fault(kind):
    said = validation_error(reply_with(Array(np.zeros((3, 2), kind))), SENT)
    assert "no numbers" in said


@pytest.mark.parametrize("kind", ["f4", "c8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_a_fault_in_every_kind_of_number(kind, value):
    array = np.zeros((3, 2), kind)
    assert validation_error(reply_with(Array(array)), SENT) is None
    array[1, 1] = value
    assert validation_error(reply_with(Array(array)), SENT) == "weight holds NaN or infinite values"


@pytest.mark.parametrize(("more", "usable"), [(0, True), (1, False)])
def test_bytes_beyond_the_values_and_the_longest_header_are_a_fault(more, usable):
    values = 3 * 2 * 4
    data = WEIGHT.data.ljust(values + LONGEST_HEADER + more, b"x")
    said = validation_error(reply_with(Array(WEIGHT.dtype, WEIGHT.shape, WEIGHT.stype, data)), SENT)
    told = f"weight comes in {len(data)} bytes, its values take {values}"
    assert said == (None if usable else told)


def test_a_reply_is_looked_at_again_where_its_arrays_or_those_sent_are_others():
    reply = reply_with(WEIGHT)
    assert validation_error(reply, SENT) is None
    other = ArrayRecord({"weight": Array(np.zeros((2, 3), np.float32))})
    assert validation_error(reply, other) == "weight has shape (3, 2), sent (2, 3)"
    assert validation_error(reply, SENT) is None
    spoilt = np.full((3, 2), np.nan, np.float32)
    reply.content["arrays"] = ArrayRecord({"weight": Array(spoilt)})
    assert validation_error(reply, SENT) == "weight holds NaN or infinite values"
