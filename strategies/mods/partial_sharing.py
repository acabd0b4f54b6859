"""A part of the model that never leaves the client."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from adversary.common.types import StateDict
from adversary.observation.mechanisms import DefenceError, KeptArrays
from strategies.mods.updates import ClientUpdate, UpdateMod
from strategies.replies import arrays_of


class PartialSharingMod(UpdateMod):
    """Keeps a part of the model in the client's context, and puts it before its app every round.

    FedBN with ``batch-norm`` (Li et al., ICLR 2021), FedPer with the last layer (Arivazhagan et
    al. 2019). The server gets back of that part what it sent. For evaluation the mod belongs on
    ``@app.evaluate`` too: one object for both.

    Parameters
    ----------
    local : str
        As of :class:`~adversary.observation.mechanisms.KeptArrays`, e.g. ``batch-norm``, ``fc.*``.

    Examples
    --------
    >>> mod = PartialSharingMod("fc.*")  # @app.train(mods=[mod]), @app.evaluate(mods=[mod])
    """

    _STATE = "partial-sharing-mod"

    def __init__(self, local: str) -> None:
        super().__init__()
        self.mechanism = KeptArrays(local=local)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the app work on the client's own part."""
        return super().__call__(message, context, lambda m, c: self._inside(m, c, call_next))

    def protect(self, update: ClientUpdate) -> None:
        """Keep what was trained of the part, and put back what was sent.

        Raises
        ------
        DefenceError
            If the model has no such part.
        """
        kept = self.mechanism.personal(update.returned)
        if not kept:
            raise DefenceError(
                f"local = {self.mechanism.local!r}: no array of the model is so named"
            )
        own: StateDict = {name: update.returned[name] for name in sorted(kept)}
        update.context.state[self._STATE] = ArrayRecord(own)
        update.replace(
            self.mechanism.release(update.sent, update.returned, generator=self.generator(update))
        )

    def _inside(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if self._STATE not in context.state or not message.has_content():
            return call_next(message, context)
        own = context.state.array_records[self._STATE]
        before = message.content
        name = next(n for n, r in before.array_records.items() if r is arrays_of(before))
        arrays = ArrayRecord({**before.array_records[name], **own})
        message.content = RecordDict({**before, name: arrays})
        try:
            return call_next(message, context)
        finally:
            message.content = before
