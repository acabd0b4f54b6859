"""What all mods share: the update in a pair of messages, and what stands in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, Context, Error, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from adversary.common.errors import one_line_error
from adversary.common.seeding import generator
from adversary.common.types import StateDict
from adversary.observation.mechanisms import DefenceError, received
from strategies.replies import arrays_of

ROUND = "server-round"
"""Flower's key, in the config of a message, for the number of the round."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientUpdate:
    """What a client was sent and what its app answers with, in the types of the latter.

    Parameters
    ----------
    message, reply : Message
        The server's, and the app's answer to it.
    context : Context
        Of the client.
    sent, returned : dict of str to Tensor
        The arrays in them, copied.
    """

    message: Message
    reply: Message
    context: Context
    sent: StateDict
    returned: StateDict

    @property
    def round(self) -> int:
        """Number of the round, 0 where the server does not tell it."""
        configs = self.message.content.config_records.values()
        told = [config[ROUND] for config in configs if ROUND in config]
        return int(told[0]) if told else 0  # type: ignore[arg-type]

    def replace(self, released: StateDict) -> None:
        """Put other arrays into the reply."""
        records = self.reply.content.array_records
        (name,) = records
        records[name] = ArrayRecord(released)


class UpdateMod(ABC):
    """A Flower mod that changes what a client answers to a message of training.

    Other messages, and answers that are errors, pass as they are. Where the mod cannot do its work
    the server gets an error in place of the update: nothing leaves unprotected.

    Parameters
    ----------
    seed : int, optional
        Of the mod's random numbers, for simulations that are to repeat. Without one they come from
        the operating system. Whoever knows the seed can take the noise off again.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.seed = seed

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the app train, and return its answer as it may leave."""
        if not is_training(message):
            return call_next(message, context)
        try:
            sent = dict(arrays_of(message.content).to_torch_state_dict())
        except ValueError as error:
            return refusal(message, self.error_text(error))
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        try:
            self.protect(_update(message, reply, context, sent))
        except (ValueError, RuntimeError) as error:
            return refusal(message, self.error_text(error))
        return reply

    def error_text(self, error: Exception) -> str:
        """Return what the server is told of an update that does not leave."""
        return f"{type(self).__name__}: {one_line_error(error)}"

    @abstractmethod
    def protect(self, update: ClientUpdate) -> None:
        """Change the reply of ``update`` in place.

        Raises
        ------
        ValueError, RuntimeError
            Where that cannot be done; the update then stays at home.
        """

    def generator(self, update: ClientUpdate) -> torch.Generator:
        """Return the random numbers of one update.

        Raises
        ------
        DefenceError
            With a seed, if the server tells no round: equal noise in all rounds can be taken off.
        """
        if self.seed is None:
            draw = torch.Generator()
            draw.seed()
            return draw
        if not update.round:
            raise DefenceError(
                f"seed = {self.seed}: needs {ROUND!r} in the config of the message; leave it out"
            )
        return generator(self.seed, type(self).__name__, update.round, update.context.node_id)


def is_training(message: Message) -> bool:
    """Return whether a message asks to train, by whatever action."""
    return message.metadata.message_type.split(".")[0] == MessageType.TRAIN


def refusal(message: Message, reason: str) -> Message:
    """Return the error that stands in place of an update; strategies go on with the others'."""
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)


def _update(message: Message, reply: Message, context: Context, sent: StateDict) -> ClientUpdate:
    returned = dict(arrays_of(reply.content).to_torch_state_dict())
    for name, value in returned.items():
        if name not in sent:
            raise DefenceError(f"the app answers with {name}, which it was not sent")
        if value.shape != sent[name].shape:
            raise DefenceError(
                f"the app answers with {name} of shape {tuple(value.shape)}, "
                f"sent {tuple(sent[name].shape)}"
            )
    loaded = received(sent, returned)
    return ClientUpdate(
        message=message, reply=reply, context=context, sent=loaded, returned=returned
    )
