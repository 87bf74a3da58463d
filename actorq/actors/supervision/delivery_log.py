"""The delivery log: which messages a node has started and completed, in shared memory that survives its
death.

For each mailbox queue and sending node the log has the highest sequence number started, one slot per running
handler, and the numbers of the last crashed messages. A queue starts the messages of one node in the order of
their numbers, so these few words give the delivery state of every message, and a node's death leaves few of
them in doubt.
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
"""Crashed messages kept per mailbox queue: their senders may not have been notified when the node dies."""

MAX_NUMBER = (1 << _NUMBER_BITS) - 1
"""The highest sequence number; numbers begin at 1."""


class DeliveryState(Enum):
    """Delivery state of a message whose receiving node has died."""

    NOT_STARTED = "not started"
    STARTED = "started"
    DONE = "done"


class LogLayout:
    """Offsets of each mailbox queue's words in the page: one per source, then one per running handler.

    The layout follows from the topology alone, so that another process can read the page after a death.
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
        """Offset of a queue's words, and its number of concurrent handlers."""
        return self._offsets[actor, mailbox]

    def delivery_state(
        self, page: bytes, source: str, actor: str, message: type[Message], number: int
    ) -> DeliveryState:
        """Delivery state of the message to which `source` gave this number."""
        key = (actor, message) if (actor, message) in self._offsets else (actor, None)
        offset, capacity = self._offsets[key]
        words = memoryview(page).cast("Q")
        index = self.sources[source]
        slots = offset + len(self.sources)
        if number > words[offset + index]:
            return DeliveryState.NOT_STARTED
        in_doubt = words[slots : slots + capacity + CRASHES]
        return DeliveryState.STARTED if _mark(index, number) in in_doubt else DeliveryState.DONE


class QueueLog:
    """The words of one mailbox queue. A message counts as started from the moment its number is written."""

    __slots__ = ("_capacity", "_crashes", "_slots", "_start", "_words")

    def __init__(self, words: memoryview, start: int, sources: int, capacity: int) -> None:
        self._words = words
        self._start = start
        self._slots = start + sources
        self._capacity = capacity
        self._crashes = 0

    def begin(self, envelope: Envelope) -> None:
        """Record a start, before the handler is called. Slot first: between both writes it counts as not
        started.
        """
        words, slot = self._words, self._slots
        if self._capacity > 1:
            slot = next(at for at in range(slot, slot + self._capacity) if not words[at])
        # Inlined from _mark: this runs for every message.
        words[slot] = ((envelope.source + 1) << _NUMBER_BITS) | envelope.number
        words[self._start + envelope.source] = envelope.number

    def end(self, envelope: Envelope) -> None:
        """Record a completed handler."""
        if self._capacity == 1:
            self._words[self._slots] = 0
            return
        mark = _mark(envelope.source, envelope.number)
        for slot in range(self._slots, self._slots + self._capacity):
            if self._words[slot] == mark:
                self._words[slot] = 0
                return

    def crashed(self, envelope: Envelope) -> None:
        """Record a crashed handler: its message stays in doubt when later ones are started."""
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
        """`mailbox`: the message type of a concurrent queue, None for the serial one."""
        start, capacity = self._layout.mailbox(actor, mailbox)
        return QueueLog(self._words, start, len(self._layout.sources), capacity)


def _mailboxes(spec: ActorSpec) -> Iterator[tuple[type[Message] | None, int]]:
    yield None, 1
    for message, handler in spec.cls.definition.complete().handlers.items():
        if handler.concurrent:
            yield message, handler.concurrent


def _mark(source: int, number: int) -> int:
    return ((source + 1) << _NUMBER_BITS) | number
