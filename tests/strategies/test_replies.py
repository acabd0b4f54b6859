from __future__ import annotations

import pytest
from flwr.app import Error, Message, MessageType, RecordDict

from fl_sim.local_grid import LocalGrid
from strategies.replies import LONGEST_REASON, error_of

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
    grid = LocalGrid(foreign.App().client_app(), 1)
    question = Message(RecordDict(), next(iter(grid.get_node_ids())), MessageType.TRAIN)
    assert error_of(Message(Error(code, reason), reply_to=question)) == told
