"""Flower's SecAgg+ (Bell et al., CCS 2020) for strategies and apps of the Message API.

Flower has the protocol for its older API alone: a workflow on the server and a mod in the client.
Both run here as they are; this module translates what goes in and comes out of them. What a
client sends is its number of examples, its metrics, its integer arrays (which count batches) and
one masked vector of all other arrays. What the server learns beyond that is the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    RecordDict,
)
from flwr.client.mod import secaggplus_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Status,
    bytes_to_ndarray,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
    Key,
    Stage,
)
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.serverapp import Grid
from numpy.typing import NDArray

from adversary.common.errors import UserError
from adversary.common.torch_state import preserved_rng_state
from strategies.grids.base import GridWrapper
from strategies.replies import arrays_of, num_examples, validation_error

ARRAYS, METRICS, COUNTS, MASKED = "arrays", "metrics", "counts", "masked"
_VECTOR = "vector"


class SecureAggregationError(UserError, ValueError):
    """A client's update that SecAgg+ cannot carry; one line."""


class SecureAggregationGrid(GridWrapper):
    """A grid whose train messages are answered by SecAgg+, so that the server sees the mean only.

    A strategy that weights by ``num-examples`` works with it as with any grid. Each client's
    reply has its own metrics and counts, and in place of its own arrays their mean over the
    clients, weighted by their numbers of examples: what is averaged once more by the same
    weights stays as it is. A strategy that needs each client's arrays (a median) makes no sense
    here.

    A client that fails in training is left out, as long as the workflow's threshold is met; its
    reply tells of its error. Flower's workflow cannot go on without a client that is lost before
    training: then, and where too few are left, all replies are errors.

    Clients need :func:`secure_aggregation_mod`.

    Parameters
    ----------
    grid : Grid
        Reaches the clients.
    workflow : SecAggPlusWorkflow
        Flower's protocol with its parameters. ``max_weight`` must not be less than any client's
        number of examples; ``quantization_range`` times the number of clients must be less
        than ``modulus_range``.
    """

    def __init__(self, grid: Grid, workflow: SecAggPlusWorkflow) -> None:
        super().__init__(grid)
        self.workflow = workflow

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return the replies, those to train messages after aggregation."""
        messages = list(messages)
        if all(message.metadata.message_type != MessageType.TRAIN for message in messages):
            return super().send_and_receive(messages, timeout=timeout)
        return _Round(self._grid, self.workflow, messages, timeout).run()


def secure_aggregation_grid(grid: Grid, **parameters: Any) -> SecureAggregationGrid:
    """Return a grid around ``grid`` by SecAgg+ with these parameters of Flower's workflow."""
    return SecureAggregationGrid(grid, SecAggPlusWorkflow(**parameters))


class _Round:
    """One round of SecAgg+; to Flower's workflow it is both the grid and the strategy.

    Flower's workflow asks no more of a grid than to send and receive, and of a strategy than to
    name the clients and to take the aggregate.
    """

    def __init__(
        self,
        grid: Grid,
        workflow: SecAggPlusWorkflow,
        messages: list[Message],
        timeout: float | None,
    ) -> None:
        self._grid = grid
        self._workflow = workflow
        self._timeout = timeout
        self._sent = {message.metadata.dst_node_id: message for message in messages}
        self._failed: dict[int, Message] = {}
        self._trained: dict[int, RecordDict] = {}
        self._mean: NDArray[np.float64] | None = None
        self._stopped = ""

    def run(self) -> list[Message]:
        """Return a reply for each client that answered, in the order of the messages."""
        state = RecordDict(
            {
                MAIN_PARAMS_RECORD: ArrayRecord(),
                MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: 0}),
            }
        )
        context = LegacyContext(
            Context(run_id=0, node_id=0, node_config={}, state=state, run_config={}),
            strategy=cast(Any, self),
        )
        with preserved_rng_state():  # the workflow shuffles the clients
            self._workflow(cast(Grid, self), context)
        replies = [self._reply(node, message) for node, message in self._sent.items()]
        return [reply for reply in replies if reply is not None]

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: object
    ) -> list[tuple[GridClientProxy, FitIns]]:
        """Name the clients; what they are sent is put in by :meth:`send_and_receive`."""
        nothing = FitIns(Parameters([], ""), {})
        return [(GridClientProxy(node, self._grid, 0), nothing) for node in self._sent]

    def aggregate_fit(
        self, server_round: int, results: list[tuple[object, FitRes]], failures: object
    ) -> tuple[None, dict[str, Any]]:
        """Keep the mean, which the workflow puts into every client's result."""
        [self._mean] = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send one stage of the protocol; the model goes with the stage in which clients train."""
        messages = list(messages)
        stage = cast(str, messages[0].content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])
        training = stage == Stage.COLLECT_MASKED_VECTORS
        if training:
            for message in messages:
                secure = message.content[RECORD_KEY_CONFIGS]
                model = self._sent[message.metadata.dst_node_id].content
                message.content = RecordDict({**model, RECORD_KEY_CONFIGS: secure})
        replies = list(self._grid.send_and_receive(messages, timeout=self._timeout))
        answers = {r.metadata.src_node_id: r for r in replies if not r.has_error()}
        self._failed |= {r.metadata.src_node_id: r for r in replies if r.has_error()}
        if training:
            self._trained = {node: reply.content for node, reply in answers.items()}
        self._stopped = (
            f"secure aggregation stopped: {len(answers)} of {len(self._sent)} clients answered "
            f"in the stage {stage}"
        )
        # Without this the others would train, and then fail to unmask.
        lost_early = stage in (Stage.SETUP, Stage.SHARE_KEYS) and len(answers) < len(messages)
        return [] if lost_early else replies

    def _reply(self, node: int, message: Message) -> Message | None:
        if self._mean is not None and node in self._trained:
            return Message(self._content(node, self._mean), reply_to=message)
        if node in self._failed:
            return Message(self._failed[node].error, reply_to=message)
        if self._mean is not None:
            return None  # did not answer
        error = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=self._stopped)
        return Message(error, reply_to=message)

    def _content(self, node: int, mean: NDArray[np.float64]) -> RecordDict:
        """Return the mean as a client's arrays, with what the server has of that client alone."""
        reply = self._trained[node]
        sent = arrays_of(self._sent[node].content)
        counts = reply.array_records[COUNTS]
        averaged = _split(mean, {name: sent[name] for name in sent if name not in counts})
        arrays = {name: counts.get(name) or averaged[name] for name in sent}
        content = RecordDict({ARRAYS: ArrayRecord(arrays), METRICS: reply.metric_records[METRICS]})
        masked = cast(list[bytes], reply.config_records[RECORD_KEY_CONFIGS][Key.MASKED_PARAMETERS])
        vector = self._read(bytes_to_ndarray(masked[1]), num_examples(content))
        content[MASKED] = ConfigRecord({_VECTOR: vector.tobytes()})
        return content

    def _read(self, masked: NDArray[np.int64], examples: int) -> NDArray[np.float64]:
        """Return a client's masked vector on the scale of its arrays.

        Masks are uniform modulo ``modulus_range``: that range is read as the clipping range.
        """
        workflow = self._workflow
        [vector] = dequantize([masked], workflow.clipping_range, workflow.modulus_range)
        return vector * (workflow.max_weight / examples)


def secure_aggregation_mod(
    message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """Answer the stages of SecAgg+ in a client of the Message API; for ``@app.train(mods=[...])``.

    The app sees the one stage in which it has to train, as an ordinary train message, and
    answers as ever. Its floating-point arrays leave masked, the others (counts) as they are.

    Raises
    ------
    SecureAggregationError
        If the reply holds NaN, values beyond the clipping range, more examples than can be
        weighted, or other arrays than were sent: SecAgg+ would send something else unnoticed.
        And for an action of its own (``train.ACTION``), which SecAgg+ would answer in clear.
    """
    kind, _, action = message.metadata.message_type.partition(".")
    if kind != MessageType.TRAIN:
        return call_next(message, context)
    if action:
        raise SecureAggregationError(f"secure aggregation has no train action {action!r}")
    clear = RecordDict()

    def train(message: Message, context: Context) -> Message:
        reply = call_next(message, context)
        state = context.state.config_records[RECORD_KEY_STATE]
        _check(reply, arrays_of(message.content), state)
        arrays = arrays_of(reply.content)
        counts = {name: array for name, array in arrays.items() if _counts(array)}
        masked = _flat({name: array for name, array in arrays.items() if name not in counts})
        clear[COUNTS] = ArrayRecord(counts)
        [clear[METRICS]] = reply.content.metric_records.values()
        result = FitRes(
            Status(Code.OK, ""),
            ndarrays_to_parameters([masked]),
            num_examples(reply.content),
            metrics={},
        )
        return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)

    reply = secaggplus_mod(message, context, train)
    reply.content.update(clear)
    return reply


def masked_arrays(content: RecordDict) -> dict[str, NDArray[Any]]:
    """Return what the server received of one client alone, by array; nothing if it was not told.

    Parameters
    ----------
    content : RecordDict
        Of a reply from a :class:`SecureAggregationGrid`.
    """
    if MASKED not in content.config_records:
        return {}
    arrays = content.array_records[ARRAYS]
    vector = np.frombuffer(cast(bytes, content.config_records[MASKED][_VECTOR]))
    split = _split(vector, {name: arrays[name] for name in arrays if not _counts(arrays[name])})
    return {name: array.numpy() for name, array in split.items()}


def _check(reply: Message, sent: ArrayRecord, state: ConfigRecord) -> None:
    if (reason := validation_error(reply, sent)) is not None:
        raise SecureAggregationError(reason)
    arrays = arrays_of(reply.content)
    if other := sorted(arrays.keys() ^ sent.keys()):
        raise SecureAggregationError(
            f"secure aggregation needs the arrays that were sent, no more and no less: {other[0]}"
        )
    most = float(state[Key.MAX_WEIGHT])  # type: ignore[arg-type]
    if (examples := num_examples(reply.content)) > most:
        raise SecureAggregationError(f"max_weight = {most:g}: a client has {examples} images")
    clipping_range = float(state[Key.CLIPPING_RANGE])  # type: ignore[arg-type]
    for name, array in arrays.items():
        largest = 0.0 if _counts(array) else float(np.abs(array.numpy()).max(initial=0))
        if largest > clipping_range:
            raise SecureAggregationError(
                f"clipping_range = {clipping_range:g}: {name} holds values up to {largest:.4g}; "
                "must be at least that"
            )


def _counts(array: Array) -> bool:
    """Return whether an array counts something: it is of integers, and is not masked."""
    return array.numpy().dtype.kind != "f"


def _flat(arrays: Mapping[str, Array]) -> NDArray[np.float64]:
    """Return all arrays as one vector, in the order of their names.

    In float64, as quantising takes more digits than float32 has. One vector also because
    Flower's sum loses arrays without dimensions.
    """
    parts = [arrays[name].numpy().astype(np.float64).ravel() for name in sorted(arrays)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _split(vector: NDArray[np.float64], like: Mapping[str, Array]) -> dict[str, Array]:
    """Return what :func:`_flat` joined, in the shapes and types of ``like``."""
    found, start = {}, 0
    for name in sorted(like):
        shape, dtype = like[name].shape, like[name].numpy().dtype
        stop = start + int(np.prod(shape, dtype=int))
        found[name] = Array(vector[start:stop].reshape(shape).astype(dtype))
        start = stop
    return found
