"""The receiving side of a node: delivers envelopes to its actors and follows waits for deadlock detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from actorq.actors.message import Message

from .envelope import Envelope

CycleFound = Callable[[tuple[str, ...]], None]
"""Called with a wait chain that leads back to itself."""


class Inbox(Protocol):
    """Accepts messages for the actors of one node, in this process or across a transport."""

    def deliver(self, envelope: Envelope) -> None:
        """Append the message to its target's mailbox queue. Never blocks, never fails."""
        ...

    def deliver_run(self, envelopes: Sequence[Envelope]) -> None:
        """Append several messages of one type to one target."""
        ...

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CycleFound) -> None:
        """Follow the waits that begin at `target`; call `found` if they lead back into `chain`."""
        ...
