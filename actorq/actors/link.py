"""The sender's side of one actor's way to another: credit, sending, asking."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .circles import current_handling, describe
from .errors import ActorDied, CircularWait, MessageTooLarge, NotCarried, Refused
from .letter import DeadLetter, Enquiry, Letter, Outcome
from .message import VARIABLE, Message, fixed_size, seal
from .scheduling import Event, Scheduler
from .statistics import LinkStatistics
from .transport import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import MailboxBounds


class _Waiter:
    """A sender that waits for credit."""

    __slots__ = ("circle", "event", "granted", "size")

    def __init__(self, size: int, event: Event) -> None:
        self.size = size
        self.event = event
        self.granted = False
        self.circle: tuple[str, ...] | None = None

    def found_circle(self, chain: tuple[str, ...]) -> None:
        if not self.granted:
            self.circle = chain
            self.event.set()


class Link:
    """From one sender to one receiver. Its credit is its own: no other sender can use it up.

    A message takes credit from sending until its handler has returned.
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

    # Sending.

    def admit(self, message: Any) -> int:
        """Check the message, give its arrays away, and return its size in bytes."""
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
        """Post a message that was admitted and need not wait."""
        letter = Letter(message, size, self.sender, self.target, self, ())
        self._post(letter)

    def _post(self, letter: Letter) -> None:
        self._sent += 1
        if letter.message.delivery == "latest":
            letter.charged = False
        else:
            self._credit_messages -= 1
            self._credit_bytes -= letter.size
        self.inbox.deliver(letter)

    async def wait_for_credit(self, message: type[Message], size: int) -> None:
        """Return when `size` bytes may be sent, first come first served. Cancelled, nothing is taken."""
        if self._passes_turn:
            await self._scheduler.pass_turn()
        if message.delivery == "latest":
            return
        if not self._waiting and self._credit_messages > 0 and size <= self._credit_bytes:
            return
        waiter = _Waiter(size, self._scheduler.event())
        self._waiting.append(waiter)
        handling = current_handling.get()
        wait = (self, message)
        try:
            if handling is not None:
                handling.waits.append(wait)
                self.inbox.probe(self.target, message, handling.chain(), waiter.found_circle)
            await waiter.event.wait()
            if waiter.circle is not None:
                raise CircularWait("full mailboxes: " + describe(waiter.circle))
        except BaseException:
            if waiter.granted:
                self._return_credit(size)
            else:
                self._waiting.remove(waiter)
            raise
        finally:
            if handling is not None:
                handling.waits.remove(wait)
        # What was granted is put back, and `send` takes it before any other task can run.
        self._credit_messages += 1
        self._credit_bytes += size

    def _return_credit(self, size: int) -> None:
        self._credit_messages += 1
        self._credit_bytes += size
        while self._waiting and self._credit_messages > 0 and self._waiting[0].size <= self._credit_bytes:
            waiter = self._waiting.popleft()
            waiter.granted = True
            self._credit_messages -= 1
            self._credit_bytes -= waiter.size
            waiter.event.set()

    # Outcomes.

    def settle(self, letter: Letter, outcome: Outcome, answer: Any = None) -> None:
        """The letter's journey is over: take its credit back, and tell whoever waits for it."""
        if letter.charged:
            if self._waiting:
                self._return_credit(letter.size)
            else:
                self._credit_messages += 1
                self._credit_bytes += letter.size
        if outcome is Outcome.HANDLED:
            self._handled += 1
        elif outcome is Outcome.SUPERSEDED:
            self._superseded += 1
        elif outcome is Outcome.UNDELIVERED or outcome is Outcome.IN_DOUBT:
            self._undelivered += 1
            dead = DeadLetter(self.sender, self.target, letter.message, outcome, str(answer))
            self._on_dead_letter(dead, isinstance(letter, Enquiry))
        if isinstance(letter, Enquiry):
            letter.outcome = outcome
            letter.answer = answer
            letter.event.set()

    # Asking.

    async def ask(self, request: Any, timeout: float | None) -> Any:
        """See `Ref.ask`."""
        return await self._reply(await self._enquire(request), timeout)

    async def _enquire(self, request: Any) -> Enquiry:
        size = self.admit(request)
        if self.must_wait(size):
            await self.wait_for_credit(type(request), size)
        handling = current_handling.get()
        chain = handling.chain() if handling is not None else ()
        enquiry = Enquiry(request, size, self.sender, self.target, self, chain, self._scheduler.event())
        self._post(enquiry)
        return enquiry

    async def _reply(self, enquiry: Enquiry, timeout: float | None) -> Any:
        if enquiry.outcome is None:
            handling = current_handling.get()
            if handling is None:
                await self._scheduler.wait(enquiry.event, timeout)
            else:
                wait = (self, type(enquiry.message))
                handling.waits.append(wait)
                try:
                    await self._scheduler.wait(enquiry.event, timeout)
                finally:
                    handling.waits.remove(wait)
        if enquiry.outcome is Outcome.HANDLED:
            return enquiry.answer
        raise self._failure(enquiry, timeout)

    def _failure(self, enquiry: Enquiry, timeout: float | None) -> Exception:
        question = f"{self.sender} asked {self.target} {type(enquiry.message).__name__}"
        match enquiry.outcome:
            case None:
                return TimeoutError(f"{question}: no reply within {timeout} s")
            case Outcome.REFUSED:
                return Refused(enquiry.answer)
            case Outcome.CIRCULAR:
                return CircularWait(describe(enquiry.answer))
            case outcome:
                return ActorDied(f"{question}: {outcome.value}: {enquiry.answer}")

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            target=self.target,
            sent=self._sent,
            handled=self._handled,
            superseded=self._superseded,
            undelivered=self._undelivered,
            outstanding=self._bounds.messages - self._credit_messages,
            outstanding_bytes=self._bounds.bytes - self._credit_bytes,
            waiting=len(self._waiting),
        )


async def ask_all(links: Sequence[Link], request: Any, timeout: float | None) -> list[Any]:
    """Ask all at once; replies in the links' order."""
    if not links:
        return []
    scheduler = links[0]._scheduler
    deadline = None if timeout is None else scheduler.now() + timeout
    enquiries = [await link._enquire(request) for link in links]
    replies = []
    for link, enquiry in zip(links, enquiries, strict=True):
        left = None if deadline is None else max(0.0, deadline - scheduler.now())
        replies.append(await link._reply(enquiry, left))
    return replies
