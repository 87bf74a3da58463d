"""Reply buffer: collects outcomes and replies for one remote node until they are sent in a frame."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from actorq.actors.message import seal
from actorq.actors.runtime.envelope import Envelope, Outcome, ReplyPath

from .codec import Answers, EnvelopeEnded, Found, Reply
from .route_table import RouteTable
from .transport import Stream

log = logging.getLogger("actorq.actors")

FRAME_BYTES = 1024 * 1024
"""A frame that has reached this size takes no further messages."""

MAX_ENDED = 1024
MAX_REASON = 2000
"""Bounds on outcomes with a reason in one frame, and on the characters of a reason."""

_NOTHING = (type(None),)
_WITH_REASON = (Outcome.REFUSED, Outcome.STOPPING, Outcome.UNDELIVERED, Outcome.IN_DOUBT)


class Received(Envelope):
    """Envelope of a message from another node."""

    __slots__ = ("number", "route", "source")

    def __init__(
        self,
        message: Any,
        size: int,
        sender: str,
        target: str,
        reply_to: ReplyPath,
        chain: tuple[str, ...],
        charged: bool,
        number: int,
        source: int,
        route: int,
    ) -> None:
        self.message = message
        self.size = size
        self.sender = sender
        self.target = target
        self.reply_to = reply_to
        self.asked_by = chain
        self.charged = charged
        self.number = number
        self.source = source
        self.route = route


class ReceivedRequest(Received):
    """Envelope of a request from another node, whose sender waits for the reply."""

    __slots__ = ()
    wants_reply: ClassVar[bool] = True


class ReplyBuffer:
    """Outcomes and replies for one incarnation of a peer, collected until they are sent."""

    def __init__(self, route_table: RouteTable, answers: Stream, max_frame_bytes: int) -> None:
        self.ack_batch: Answers[Any] = Answers()
        self.answers = answers
        self._route_table = route_table
        self._max_bytes = max_frame_bytes - FRAME_BYTES
        self._replies: deque[tuple[Reply[Any], int]] = deque()
        self._open = True
        self.awake = False
        """True from `wake` until the stream has found nothing to send."""

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self.settle(envelope, Outcome.HANDLED)

    @property
    def busy(self) -> bool:
        """True if there is something to send."""
        return bool(self.ack_batch or self._replies)

    def close(self) -> None:
        """Drop these outcomes and all later ones: the peer's incarnation has ended."""
        self._open = False
        self.ack_batch = Answers()
        self._replies.clear()

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        if not self._open or not isinstance(envelope, Received):
            return
        number = envelope.number
        if outcome is Outcome.HANDLED and not envelope.wants_reply:
            self._note_handled(number)
            if not self.awake:
                self.awake = True
                self.answers.wake()
            return
        if outcome is not Outcome.HANDLED:
            reason = sendable(str(answer)) if outcome in _WITH_REASON else ""
            circle = answer if outcome is Outcome.CIRCULAR else ()
            self.ack_batch.ended.append(EnvelopeEnded(number, outcome, reason, circle))
        elif self._route_table.replies[envelope.route] == _NOTHING:
            self._note_handled(number)
        else:
            self._reply(envelope, answer)
        if envelope.wants_reply:
            self.answers.flush()
        else:
            self.answers.wake()

    def found(self, probe: int, chain: tuple[str, ...]) -> None:
        """Report that a probe has returned to where it started."""
        if self._open:
            self.ack_batch.found.append(Found(probe, chain))
            self.answers.flush()

    def take_batch(self) -> Answers[Any]:
        """Outcomes and replies for one frame; the rest is left for the next."""
        ack_batch, self.ack_batch = self.ack_batch, Answers()
        self.ack_batch.ended = ack_batch.ended[MAX_ENDED:]
        del ack_batch.ended[MAX_ENDED:]
        replies, room = self._replies, FRAME_BYTES
        while replies and (not ack_batch.replies or replies[0][1] <= room):
            reply, size = replies.popleft()
            ack_batch.replies.append(reply)
            room -= size
        return ack_batch

    def put_back(self, ack_batch: Answers[Any]) -> None:
        """Put back all replies but one, so that each gets a frame of its own."""
        self._replies.extend((reply, FRAME_BYTES) for reply in ack_batch.replies[1:])
        del ack_batch.replies[1:]

    def _note_handled(self, number: int) -> None:
        handled = self.ack_batch.handled
        if handled and handled[-2] + handled[-1] == number:
            handled[-1] += 1
        else:
            handled += (number, 1)

    def _reply(self, envelope: Received, answer: Any) -> None:
        kinds = self._route_table.replies[envelope.route]
        size = seal(answer) if answer is not None else 0
        if size > self._max_bytes:
            reason = f"the reply of {size} bytes is too large for a frame of {self._max_bytes}"
            log.error("%s: %s", envelope.target, reason)
            self.ack_batch.ended.append(EnvelopeEnded(envelope.number, Outcome.REFUSED, reason))
            return
        try:
            self._replies.append((Reply(envelope.number, kinds.index(type(answer)), answer), size))
        except ValueError:
            asked = " or ".join(kind.__name__ for kind in kinds)
            reason = f"the reply is a {type(answer).__name__}; to another process only {asked} itself can go"
            log.error("%s: %s", envelope.target, reason)
            self.ack_batch.ended.append(EnvelopeEnded(envelope.number, Outcome.REFUSED, reason))


def sendable(reason: str) -> str:
    """The text without characters that can't be encoded, shortened to MAX_REASON."""
    return reason[:MAX_REASON].encode("utf-8", "backslashreplace").decode()
