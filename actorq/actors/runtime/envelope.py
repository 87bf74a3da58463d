"""A message on its way, and how its journey ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from actorq.actors.message import Message

if TYPE_CHECKING:
    from .deadlock import HandlerContext
    from .scheduler import Event


class Outcome(Enum):
    """How a message ended, for its sender."""

    HANDLED = "handled"
    REFUSED = "refused"
    """Its handler ran and raised Refused; the answer is the reason."""
    STOPPING = "stopping"
    """Its handler ran and raised Stopping: the run is ending."""
    SUPERSEDED = "superseded"
    """A newer `latest` message took its place unread."""
    UNDELIVERED = "undelivered"
    """Certainly not begun."""
    IN_DOUBT = "in doubt"
    """Begun, perhaps not ended: its receiver died over it."""
    CIRCULAR = "circular"
    """Not begun: waiting for it would have closed a circle; the answer names the actors."""


class ReplyPath(Protocol):
    """The way back to a message's sender: beside it in the same process, or at the far end of a transport."""

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        """Tell the sender how the message ended. Never blocks.

        `answer` is the reply for HANDLED, and a sentence for the outcomes that need one.
        """
        ...

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        """The same for several of them, of which nobody waits for a reply."""
        ...


class Envelope:
    """One message from one actor to another."""

    __slots__ = ("asked_by", "charged", "message", "reply_to", "sender", "size", "target")
    wants_reply: ClassVar[bool] = False
    source: int = 0
    """Of one that has come from another node: which node."""
    number: int = 0
    """Of one that has come from another node: what that node will be answered with. 0 for others."""

    def __init__(
        self,
        message: Message,
        size: int,
        sender: str,
        target: str,
        reply_to: ReplyPath,
        asked_by: HandlerContext | tuple[str, ...],
    ) -> None:
        self.message = message
        self.size = size
        self.sender = sender
        self.target = target
        self.reply_to = reply_to
        self.asked_by = asked_by
        """The handler that waits for the answer, or its chain if it is elsewhere; () if no handler waits."""
        self.charged = True
        """Whether it takes credit; `latest` messages take none, there is only ever one unread."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The waiting handlers that led to this request, outermost first; empty for what nobody waits for."""
        return self.asked_by if isinstance(self.asked_by, tuple) else self.asked_by.chain()


class RequestEnvelope(Envelope):
    """A message whose sender waits for the answer."""

    __slots__ = ("answer", "event", "outcome")
    wants_reply: ClassVar[bool] = True

    def __init__(
        self,
        message: Message,
        size: int,
        sender: str,
        target: str,
        reply_to: ReplyPath,
        asked_by: HandlerContext | tuple[str, ...],
        event: Event,
    ) -> None:
        super().__init__(message, size, sender, target, reply_to, asked_by)
        self.event = event
        self.outcome: Outcome | None = None
        self.answer: Any = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not handled, or perhaps not."""

    sender: str
    target: str
    message: Message
    outcome: Outcome
    """UNDELIVERED or IN_DOUBT."""
    reason: str
