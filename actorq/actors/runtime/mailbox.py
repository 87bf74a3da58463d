"""Where letters wait inside one actor: a lane for the handlers that run one at a time, and one for each
message type with concurrent handlers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from actorq.actors.message import Message
from actorq.actors.supervision.delivery_log import LaneLedger

from .deadlock import Handling, StartOrder, inspect
from .envelope import Letter, Outcome
from .scheduler import Event, Scheduler


class Lane:
    """Unread letters in order, and those at hand. Stays when the actor behind it is replaced."""

    def __init__(self, key: str, capacity: int, scheduler: Scheduler) -> None:
        self.key = key
        """The actor's name, with the message type behind it for a concurrent lane."""
        self.capacity = capacity
        self.start_order: StartOrder | None = None
        """Set until the actor behind it has started."""
        self.queue: deque[Letter] = deque()
        self.at_hand: list[Letter] = []
        self.handling: Handling | None = Handling(self) if capacity == 1 else None
        self._scheduler = scheduler
        self.ledger: LaneLedger | None = None
        """Where it is noted what has come from other nodes; None if nobody will read it."""
        self._newest: dict[tuple[str, type[Message]], Letter] = {}
        self._sleeper: Event | None = None

    def put(self, letter: Letter) -> None:
        self.queue.append(letter)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_all(self, letters: Sequence[Letter]) -> None:
        """Put several, in order."""
        self.queue.extend(letters)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_first(self, letter: Letter) -> None:
        """Put a letter before all that wait."""
        self.queue.appendleft(letter)
        if self._sleeper is not None:
            self._sleeper.set()
            self._sleeper = None

    def put_request(self, letter: Letter) -> None:
        """Put a letter that may close a circle of waits."""
        self.put(letter)
        if letter.asked_by:
            inspect(self, letter.chain, partial(self._turn_back, letter))

    def _turn_back(self, letter: Letter, chain: tuple[str, ...]) -> None:
        if letter in self.queue:
            self.queue.remove(letter)
            letter.origin.settle(letter, Outcome.CIRCULAR, chain)

    def put_newest(self, letter: Letter) -> None:
        """Put a letter in place of its sender's unread one of the same type."""
        key = (letter.sender, type(letter.message))
        older = self._newest.get(key)
        if older is not None:
            self.queue.remove(older)
            older.origin.settle(older, Outcome.SUPERSEDED)
        self._newest[key] = letter
        self.put(letter)

    def take(self) -> Letter:
        letter = self.queue.popleft()
        if not letter.charged:
            self._newest.pop((letter.sender, type(letter.message)), None)
        return letter

    async def wait(self) -> None:
        """Return when there is an unread letter."""
        while not self.queue:
            self._sleeper = self._scheduler.event()
            await self._sleeper.wait()

    def begin(self, letter: Letter) -> None:
        """Its handler is about to be called."""
        self.at_hand.append(letter)
        if self.ledger is not None and letter.number:
            self.ledger.begin(letter)

    def note_ended(self, letter: Letter) -> None:
        """Its handler is gone."""
        if self.ledger is not None and letter.number:
            self.ledger.end(letter)

    def drop_all(self, outcome: Outcome, reason: str) -> None:
        """Settle what is unread."""
        while self.queue:
            letter = self.take()
            letter.origin.settle(letter, outcome, reason)

    def drop_at_hand(self, reason: str) -> None:
        """Settle what was begun by handlers that are gone."""
        for letter in self.at_hand:
            letter.origin.settle(letter, Outcome.IN_DOUBT, reason)
            if self.ledger is not None and letter.number:
                self.ledger.crashed(letter)
        self.at_hand.clear()

    @property
    def idle(self) -> bool:
        return not self.queue and not self.at_hand


class ConcurrentLane(Lane):
    """Hands letters out as they come, up to its capacity at once."""

    def __init__(self, key: str, capacity: int, scheduler: Scheduler) -> None:
        super().__init__(key, capacity, scheduler)
        self.handling = None
        self._begin: Callable[[ConcurrentLane, Letter], None] | None = None

    def put(self, letter: Letter) -> None:
        self.queue.append(letter)
        self.hand_out()

    def put_all(self, letters: Sequence[Letter]) -> None:
        self.queue.extend(letters)
        self.hand_out()

    def open(self, begin: Callable[[ConcurrentLane, Letter], None]) -> None:
        """An actor is there: `begin` starts a handler."""
        self._begin = begin
        self.hand_out()

    def close(self) -> None:
        self._begin = None

    def hand_out(self) -> None:
        while self._begin is not None and self.queue and len(self.at_hand) < self.capacity:
            letter = self.take()
            self.begin(letter)
            self._begin(self, letter)
