"""Channels: the sender's side of a route to one receiver, with credit-based flow control, tell and ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from actorq.actors.errors import ActorDied, CircularWait, MessageTooLarge, NotCarried, Refused, Stopping
from actorq.actors.message import VARIABLE, Message, fixed_size, seal
from actorq.actors.runtime.inbox import Inbox
from actorq.actors.statistics import ChannelStatistics

from .deadlock import current_handling, describe
from .envelope import DeadLetter, Envelope, Outcome, RequestEnvelope
from .scheduler import Event, Scheduler

if TYPE_CHECKING:
    from actorq.actors.spec import MailboxBounds


T = TypeVar("T")

RETRY_SECONDS = (0.0, 0.1, 1.0)
"""The pauses before a request is asked again after an ActorDied; the last one from then on."""

_REFUSALS = (Outcome.REFUSED, Outcome.STOPPING)


class _Waiter:
    """A sender that waits for credit."""

    __slots__ = ("circle", "event", "granted", "size")

    def __init__(self, size: int, event: Event) -> None:
        self.size = size
        self.event = event
        self.granted = False
        self.circle: tuple[str, ...] | None = None

    def found_cycle(self, path: tuple[str, ...]) -> None:
        if not self.granted:
            self.circle = path
            self.event.set()


class Channel:
    """Credit-controlled route from one sender to one receiver; no other sender can use its credit up.

    A message takes credit from sending until its handler has returned (AMQP 1.0's link credit).
    """

    __slots__ = (
        "_bounds",
        "_credit_bytes",
        "_credit_messages",
        "_handled",
        "_on_dead_letter",
        "_passes_turn",
        "_scheduler",
        "_sent",
        "_sizes",
        "_superseded",
        "_undelivered",
        "_waiting",
        "inbox",
        "sender",
        "target",
    )

    def __init__(
        self,
        sender: str,
        target: str,
        carries: Sequence[type[Message]],
        inbox: Inbox,
        bounds: MailboxBounds,
        scheduler: Scheduler,
        on_dead_letter: Callable[[DeadLetter, bool], None],
    ) -> None:
        self.sender = sender
        self.target = target
        self.inbox = inbox
        self._bounds = bounds
        self._credit_messages = bounds.messages
        self._credit_bytes = bounds.bytes
        self._scheduler = scheduler
        self._passes_turn = scheduler.deterministic
        self._on_dead_letter = on_dead_letter
        self._sizes = {message: fixed_size(message) for message in carries}
        self._waiting: deque[_Waiter] = deque()
        self._sent = self._handled = self._superseded = self._undelivered = 0

    @property
    def sent(self) -> int:
        """Number of messages sent, whatever their outcome."""
        return self._sent

    # Sending.

    def admit(self, message: Any) -> int:
        """Check the message, make its arrays read-only, and return its size in bytes."""
        size = self._sizes.get(type(message), 0)
        if size > 0:
            return size
        if size == VARIABLE:
            size = seal(message)
            if size > self._bounds.bytes:
                raise MessageTooLarge(
                    f"{type(message).__name__} of {size} bytes from {self.sender} to {self.target}: "
                    f"its mailbox takes at most {self._bounds.bytes} bytes from one sender"
                )
            return size
        carried = ", ".join(known.__name__ for known in self._sizes) or "nothing"
        raise NotCarried(
            f"{self.sender} sends {type(message).__name__} to {self.target}, but this port carries {carried}"
        )

    def must_wait(self, size: int) -> bool:
        return (
            self._credit_messages <= 0
            or size > self._credit_bytes
            or bool(self._waiting)
            or self._passes_turn
        )

    def send(self, message: Message, size: int) -> None:
        """Send a message that was admitted and has credit."""
        envelope = Envelope(message, size, self.sender, self.target, self, ())
        self._post(envelope)

    def _post(self, envelope: Envelope) -> None:
        self._sent += 1
        if envelope.message.delivery == "latest":
            envelope.charged = False
        else:
            self._credit_messages -= 1
            self._credit_bytes -= envelope.size
        self.inbox.deliver(envelope)

    async def wait_for_credit(self, message: type[Message], size: int, timeout: float | None = None) -> bool:
        """Wait for credit of one message and `size` bytes, first come first served; False after `timeout`
        seconds.

        Cancelled or timed out, no credit is taken.
        """
        if self._passes_turn:
            await self._scheduler.pass_turn()
        if message.delivery == "latest":
            return True
        if not self._waiting and self._credit_messages > 0 and size <= self._credit_bytes:
            return True
        waiter = _Waiter(size, self._scheduler.event())
        self._waiting.append(waiter)
        handling = current_handling.get()
        wait = (self, message)
        try:
            if handling is not None:
                handling.waits.append(wait)
                self.inbox.probe(self.target, message, handling.chain(), waiter.found_cycle)
            await self._scheduler.wait(waiter.event, timeout)
        except BaseException:
            self._give_up(waiter)
            raise
        finally:
            if handling is not None:
                handling.waits.remove(wait)
        if not waiter.granted:
            self._give_up(waiter)
            if waiter.circle is not None:
                raise CircularWait("full mailboxes: " + describe(waiter.circle))
            return False
        # The granted credit is put back here, and `send` takes it before any other task can run.
        self._credit_messages += 1
        self._credit_bytes += size
        return True

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter.granted:
            self._return_credit(waiter.size)
        else:
            self._waiting.remove(waiter)
            self._grant()  # the next waiters may need less

    def _return_credit(self, size: int) -> None:
        self._credit_messages += 1
        self._credit_bytes += size
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._credit_messages > 0 and self._waiting[0].size <= self._credit_bytes:
            waiter = self._waiting.popleft()
            waiter.granted = True
            self._credit_messages -= 1
            self._credit_bytes -= waiter.size
            waiter.event.set()

    # Outcomes.

    def settle(self, envelope: Envelope, outcome: Outcome, answer: Any = None) -> None:
        """Record a message's outcome: return its credit, and wake the task that waits for the reply."""
        if envelope.charged:
            if self._waiting:
                self._return_credit(envelope.size)
            else:
                self._credit_messages += 1
                self._credit_bytes += envelope.size
        if outcome is Outcome.HANDLED or outcome in _REFUSALS:
            self._handled += 1
        elif outcome is Outcome.SUPERSEDED:
            self._superseded += 1
        elif outcome is Outcome.CIRCULAR:
            self._sent -= 1
        elif outcome is Outcome.UNDELIVERED or outcome is Outcome.IN_DOUBT:
            self._undelivered += 1
            dead = DeadLetter(self.sender, self.target, envelope.message, outcome, str(answer))
            self._on_dead_letter(dead, isinstance(envelope, RequestEnvelope))
        if isinstance(envelope, RequestEnvelope):
            envelope.outcome = outcome
            envelope.answer = answer
            envelope.event.set()

    def settle_handled(self, envelopes: Sequence[Envelope]) -> None:
        """Record HANDLED for several messages at once: most messages are told, and handled in order."""
        if any(envelope.wants_reply for envelope in envelopes):
            for envelope in envelopes:
                self.settle(envelope, Outcome.HANDLED)
            return
        sizes = [envelope.size for envelope in envelopes if envelope.charged]
        self._credit_messages += len(sizes)
        self._credit_bytes += sum(sizes)
        self._handled += len(envelopes)
        self._grant()

    # Asking.

    async def ask(self, request: Any, timeout: float | None, retry: bool = False) -> Any:
        """See `Ref.ask`."""
        if retry:
            return await _retried(partial(self.ask, request, timeout), self._scheduler)
        size = self.admit(request)
        if self.must_wait(size):
            began = self._scheduler.now()
            if not await self.wait_for_credit(type(request), size, timeout):
                raise self._too_late(request, "no room in its mailbox")
            if timeout is not None:
                timeout = max(0.0, timeout - (self._scheduler.now() - began))
        request_envelope = self._request_envelope(request, size)
        try:
            self._post(request_envelope)
            return await self._answer(request_envelope, timeout)
        finally:
            self._leave(request_envelope)

    async def ask_with(
        self, others: Sequence[Channel], requests: Sequence[Any], timeout: float | None, retry: bool = False
    ) -> list[Any]:
        """Ask on this channel and `others` at once, each its own request; replies and failures in order."""
        if retry:
            return await _retried(partial(self.ask_with, others, requests, timeout), self._scheduler)
        channels, scheduler = (self, *others), self._scheduler
        deadline = None if timeout is None else scheduler.now() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - scheduler.now())

        request_envelopes: list[RequestEnvelope] = []
        try:
            for channel, request in zip(channels, requests, strict=True):
                size = channel.admit(request)
                if channel.must_wait(size) and not await channel.wait_for_credit(type(request), size, left()):
                    raise channel._too_late(request, "no room in its mailbox")
                request_envelopes.append(channel._request_envelope(request, size))
                channel._post(request_envelopes[-1])
            return [
                await channel._answer(each, left())
                for channel, each in zip(channels, request_envelopes, strict=True)
            ]
        finally:
            for channel, request_envelope in zip(channels, request_envelopes, strict=False):
                channel._leave(request_envelope)

    async def _answer(self, request_envelope: RequestEnvelope, timeout: float | None) -> Any:
        await self._scheduler.wait(request_envelope.event, timeout)
        if request_envelope.outcome is Outcome.HANDLED:
            return request_envelope.answer
        raise self._failure(request_envelope)

    def _request_envelope(self, request: Any, size: int) -> RequestEnvelope:
        """An envelope registered as a wait of the current handler, until `_leave`."""
        handling = current_handling.get()
        if handling is not None:
            handling.waits.append((self, type(request)))
        asked_by = () if handling is None else handling
        return RequestEnvelope(
            request, size, self.sender, self.target, self, asked_by, self._scheduler.event()
        )

    def _leave(self, request_envelope: RequestEnvelope) -> None:
        """Unregister the wait: the reply has come, or the ask has ended without."""
        handling = request_envelope.asked_by
        if not isinstance(handling, tuple):
            handling.waits.remove((self, type(request_envelope.message)))
            request_envelope.asked_by = ()

    def _failure(self, request_envelope: RequestEnvelope) -> Exception:
        match request_envelope.outcome:
            case None:
                return self._too_late(request_envelope.message, "no reply")
            case Outcome.REFUSED:
                return Refused(request_envelope.answer)
            case Outcome.STOPPING:
                return Stopping(request_envelope.answer)
            case Outcome.CIRCULAR:
                return CircularWait(describe(request_envelope.answer))
            case outcome:
                return ActorDied(
                    f"{self._question(request_envelope.message)}: {outcome.value}: {request_envelope.answer}"
                )

    def _too_late(self, request: Message, why: str) -> TimeoutError:
        return TimeoutError(f"{self._question(request)}: {why} within its timeout")

    def _question(self, request: Message) -> str:
        return f"{self.sender} asked {self.target} {type(request).__name__}"

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            target=self.target,
            sent=self._sent,
            handled=self._handled,
            superseded=self._superseded,
            undelivered=self._undelivered,
            outstanding=self._bounds.messages - self._credit_messages,
            outstanding_bytes=self._bounds.bytes - self._credit_bytes,
            waiting=len(self._waiting),
        )


async def _retried(ask: Callable[[], Awaitable[T]], scheduler: Scheduler) -> T:
    """The reply of the first incarnation that gives one; an actor past its restart limit ends the run."""
    for pause in chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1])):
        try:
            return await ask()
        except ActorDied:
            await scheduler.sleep(pause)
    raise AssertionError("repeat() has no end")
