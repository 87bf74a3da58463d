"""A transport within one process that encodes and decodes whatever it carries.

Actors that work over it lean on no shared memory: every message and reply arrives as a copy, its arrays
read-only, and what can't cross a process border shows here.
"""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar, TypeVar, cast

from actorq.actors.header import AnswerHeader, LetterHeader
from actorq.actors.letter import Letter, Outcome
from actorq.actors.message import Message
from actorq.actors.registry import Registry
from actorq.actors.transport import CircleFound, Inbox
from actorq.actors.wire import decode, encode

H = TypeVar("H", LetterHeader, AnswerHeader)

_WITH_REASON = (Outcome.REFUSED, Outcome.UNDELIVERED, Outcome.IN_DOUBT)


class EncodedTransport:
    """Carries letters between nodes that share one event loop, each by way of its frame.

    Sending raises DefinitionError for a message type, and WireError for a value, that can't travel; a
    handler's answer that can't is an error of its actor's node.
    """

    name: ClassVar[str] = "encoded"
    crosses_processes: ClassVar[bool] = False

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}
        self._registry = Registry()

    def open(self, node: str, inbox: Inbox) -> None:
        self._inboxes[node] = inbox

    def route(self, source: str, target: str) -> Inbox:
        return _Way(self._inboxes[target], self._registry)

    async def close(self) -> None:
        self._inboxes.clear()


class _Received(Letter):
    """A letter as it came out of its frame."""

    __slots__ = ("request",)
    request: int


class _ReceivedEnquiry(_Received):
    __slots__ = ()
    wants_reply: ClassVar[bool] = True


class _Way:
    """To one node: frames there, and their answers back."""

    def __init__(self, inbox: Inbox, registry: Registry) -> None:
        self._inbox = inbox
        self._registry = registry
        self._requests = count(1)
        self._unsettled: dict[int, Letter] = {}

    def deliver(self, letter: Letter) -> None:
        request = next(self._requests)
        header = LetterHeader(
            letter.sender, letter.target, request, letter.size, letter.wants_reply, letter.chain
        )
        arrived, message = self._carry(header, letter.message)
        kind = _ReceivedEnquiry if arrived.wants_reply else _Received
        received = kind(message, arrived.size, arrived.sender, arrived.target, self, arrived.chain)
        received.charged = message.delivery != "latest"
        received.request = arrived.request
        self._unsettled[request] = letter
        self._inbox.deliver(received)

    def settle(self, letter: Letter, outcome: Outcome, answer: Any = None) -> None:
        """Carry the outcome back to the letter's sender."""
        assert isinstance(letter, _Received)
        header = AnswerHeader(
            letter.request,
            outcome,
            reason=str(answer) if outcome in _WITH_REASON else "",
            circle=answer if outcome is Outcome.CIRCULAR else (),
        )
        reply = answer if outcome is Outcome.HANDLED and letter.wants_reply else None
        arrived, reply = self._carry(header, reply)
        original = self._unsettled.pop(arrived.request)
        if arrived.outcome in _WITH_REASON:
            reply = arrived.reason
        elif arrived.outcome is Outcome.CIRCULAR:
            reply = arrived.circle
        original.origin.settle(original, arrived.outcome, reply)

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        """Hand the probe over as it is: it carries names only."""
        self._inbox.probe(target, message, chain, found)

    def _carry(self, header: H, payload: Any) -> tuple[H, Any]:
        if payload is not None:
            self._registry.register(type(payload))
        return cast(tuple[H, Any], decode(encode(header, payload, self._registry), self._registry))
