"""Envelopes: a message with its sender, target and reply path, and the outcome of its delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from actorq.actors.message import Message

if TYPE_CHECKING:
    from .scheduler import Event


class Outcome(Enum):
    """Final delivery state of a message, as its sender sees it."""

    HANDLED = "handled"
    REFUSED = "refused"
    """The handler ran and raised Refused; the answer is the reason."""
    STOPPING = "stopping"
    """The handler ran and raised Stopping: the run is stopping."""
    SUPERSEDED = "superseded"
    """A newer `latest` message replaced it unread."""
    UNDELIVERED = "undelivered"
    """Its handler was certainly not started."""
    IN_DOUBT = "in doubt"
    """Its handler was started and perhaps not completed: the receiver crashed or its node died."""
    CIRCULAR = "circular"
    """Not started: waiting for it would have closed a circular wait; the answer names the actors."""


class WaitingHandler(Protocol):
    """A handler that waits for a reply, as deadlock detection sees it."""

    waits: list[Any]

    def chain(self) -> tuple[str, ...]:
        """The handlers that wait for it, outermost first, and itself."""
        ...


class ReplyPath(Protocol):
    """Route back to a message's sender, in the same process or across a transport."""

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        """Report a message's outcome to its sender. Never blocks.

        `answer` is the reply for HANDLED, and a sentence for the outcomes that have one.
        """
        ...

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        """Report HANDLED for several messages that need no reply."""
        ...


class Envelope:
    """One message with its sender, target, size and reply path."""

    __slots__ = ("asked_by", "charged", "message", "reply_to", "sender", "size", "target")
    wants_reply: ClassVar[bool] = False
    source: int = 0
    """Index of the sending node; for messages from other nodes only."""
    number: int = 0
    """Sequence number assigned by the sending node; 0 for messages of the same node."""

    def __init__(
        self,
        message: Message,
        size: int,
        sender: str,
        target: str,
        reply_to: ReplyPath,
        asked_by: WaitingHandler | tuple[str, ...],
    ) -> None:
        self.message = message
        self.size = size
        self.sender = sender
        self.target = target
        self.reply_to = reply_to
        self.asked_by = asked_by
        """The handler that waits for the reply, or its wait chain if it is in another process; () if none
        waits.
        """
        self.charged = True
        """Whether the message takes credit; `latest` messages take none, since at most one is unread."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Wait chain: the waiting handlers that led to this request, outermost first; empty if none waits."""
        return self.asked_by if isinstance(self.asked_by, tuple) else self.asked_by.chain()


class RequestEnvelope(Envelope):
    """Envelope of an ask: its sender waits for the reply."""

    __slots__ = ("answer", "event", "outcome")
    wants_reply: ClassVar[bool] = True

    def __init__(
        self,
        message: Message,
        size: int,
        sender: str,
        target: str,
        reply_to: ReplyPath,
        asked_by: WaitingHandler | tuple[str, ...],
        event: Event,
    ) -> None:
        super().__init__(message, size, sender, target, reply_to, asked_by)
        self.event = event
        self.outcome: Outcome | None = None
        self.answer: Any = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message whose handler did not run, or perhaps did not complete."""

    sender: str
    target: str
    message: Message
    outcome: Outcome
    """UNDELIVERED or IN_DOUBT."""
    reason: str
