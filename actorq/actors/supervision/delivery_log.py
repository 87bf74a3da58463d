"""What a node has begun and ended, in memory that outlives it: its death leaves few messages in doubt.

Each mailbox queue of each actor notes the newest message that it has begun from each other node, those it is
at and the
last ones that it has crashed over. A mailbox queue begins the letters of one node in the order in which they
were
numbered, so this tells the fate of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING

from actorq.actors.errors import DefinitionError
from actorq.actors.message import Message
from actorq.actors.spec import MAIN, ActorSpec

if TYPE_CHECKING:
    from actorq.actors.runtime.envelope import Envelope

WORD = 8
_SOURCE_BITS = 12
_NUMBER_BITS = 64 - _SOURCE_BITS
MAX_NODES = (1 << _SOURCE_BITS) - 1
CRASHES = 8
"""So many are remembered in each mailbox queue: their senders may not have been told when the node dies."""

MAX_NUMBER = (1 << _NUMBER_BITS) - 1
"""Of a message; the first one is 1."""


class DeliveryState(Enum):
    """What became of a message whose receiver has died."""

    NOT_BEGUN = "not begun"
    AT_HAND = "at hand"
    DONE = "done"


class LogLayout:
    """Where in the page each mailbox queue's words lie: first one for each source, then one for each handler
    at work.

    It follows from the topology alone: who reads a page after its writer's death knows it too.
    """

    def __init__(self, specs: Mapping[str, ActorSpec], node: str) -> None:
        self.sources = {
            name: index for index, name in enumerate(dict.fromkeys([MAIN, *(s.node for s in specs.values())]))
        }
        if len(self.sources) > MAX_NODES:
            raise DefinitionError(f"{len(self.sources)} nodes; a run has at most {MAX_NODES}")
        self._offsets: dict[tuple[str, type[Message] | None], tuple[int, int]] = {}
        words = 0
        for spec in specs.values():
            if spec.node == node:
                for mailbox, capacity in _mailboxes(spec):
                    self._offsets[spec.name, mailbox] = (words, capacity)
                    words += len(self.sources) + capacity + CRASHES
        self.nbytes = max(1, words) * WORD

    def mailbox(self, actor: str, mailbox: type[Message] | None) -> tuple[int, int]:
        """The offset of a mailbox queue's words, and how many handlers may be at work."""
        return self._offsets[actor, mailbox]

    def delivery_state(
        self, page: bytes, source: str, actor: str, message: type[Message], number: int
    ) -> DeliveryState:
        """What became of the message that `source` gave this number."""
        key = (actor, message) if (actor, message) in self._offsets else (actor, None)
        offset, capacity = self._offsets[key]
        words = memoryview(page).cast("Q")
        index = self.sources[source]
        slots = offset + len(self.sources)
        if number > words[offset + index]:
            return DeliveryState.NOT_BEGUN
        in_doubt = words[slots : slots + capacity + CRASHES]
        return DeliveryState.AT_HAND if _mark(index, number) in in_doubt else DeliveryState.DONE


class QueueLog:
    """One mailbox queue's words. A message counts as begun from the moment its number is written."""

    __slots__ = ("_capacity", "_crashes", "_slots", "_start", "_words")

    def __init__(self, words: memoryview, start: int, sources: int, capacity: int) -> None:
        self._words = words
        self._start = start
        self._slots = start + sources
        self._capacity = capacity
        self._crashes = 0

    def begin(self, envelope: Envelope) -> None:
        """Before the handler is called. The slot first: between the two writes the message is not begun."""
        words, slot = self._words, self._slots
        if self._capacity > 1:
            slot = next(at for at in range(slot, slot + self._capacity) if not words[at])
        # As _mark does: this is done for every message.
        words[slot] = ((envelope.source + 1) << _NUMBER_BITS) | envelope.number
        words[self._start + envelope.source] = envelope.number

    def end(self, envelope: Envelope) -> None:
        """After it has returned."""
        if self._capacity == 1:
            self._words[self._slots] = 0
            return
        mark = _mark(envelope.source, envelope.number)
        for slot in range(self._slots, self._slots + self._capacity):
            if self._words[slot] == mark:
                self._words[slot] = 0
                return

    def crashed(self, envelope: Envelope) -> None:
        """Its handler is gone: it stays in doubt, also when the next message is begun."""
        last = self._slots + self._capacity
        self._words[last + self._crashes % CRASHES] = _mark(envelope.source, envelope.number)
        self._crashes += 1
        self.end(envelope)


class DeliveryLog:
    """The page of one node: `memory` is shared, zeroed, and at least `layout.nbytes` long."""

    def __init__(self, layout: LogLayout, memory: memoryview) -> None:
        self._layout = layout
        self._words = memory.cast("B")[: layout.nbytes].cast("Q")

    def mailbox(self, actor: str, mailbox: type[Message] | None) -> QueueLog:
        """`mailbox`: the message type of a concurrent mailbox queue, None for the one that handles one at a
        time."""
        start, capacity = self._layout.mailbox(actor, mailbox)
        return QueueLog(self._words, start, len(self._layout.sources), capacity)


def _mailboxes(spec: ActorSpec) -> Iterator[tuple[type[Message] | None, int]]:
    yield None, 1
    for message, handler in spec.cls.definition.complete().handlers.items():
        if handler.concurrent:
            yield message, handler.concurrent


def _mark(source: int, number: int) -> int:
    return ((source + 1) << _NUMBER_BITS) | number
