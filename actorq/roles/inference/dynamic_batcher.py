"""Gathering questions into batches: until there are enough, or the oldest has waited long enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from actorq.actors import Actor, Refused
from actorq.actors.runtime.scheduler import Event

from .messages import Act, Acted


@dataclass(eq=False, slots=True)
class InferenceRequest:
    """A request that waits for its answer."""

    request: Act
    arrived: float
    """Seconds, on the actor's clock."""
    settled: Event
    outcome: Acted | Refused | None = None

    def settle(self, outcome: Acted | Refused) -> None:
        self.outcome = outcome
        self.settled.set()

    def __len__(self) -> int:
        """Its observations."""
        return len(self.request.observations)


class DynamicBatcher:
    """Questions in the order they came, given out in batches, each in one of them and whole.

    A batch is due when `batch_size` observations are there, or when the oldest question has waited for
    `deadline_seconds`, whichever is first. It has as many questions as fit into `batch_size`: only one that
    is larger by itself exceeds it. One taker at a time.
    """

    def __init__(self, actor: Actor, batch_size: int, deadline_seconds: float) -> None:
        self._actor = actor
        self._batch_size, self._deadline = batch_size, deadline_seconds
        self._waiting: deque[InferenceRequest] = deque()
        self._observations = 0
        self._changed = actor.event()
        self._timing = False
        self._taken = actor.now()
        self._held = 0.0

    async def ask(self, request: Act) -> Acted:
        """The answer, once somebody has settled the question. Raises Refused if it was turned back."""
        question = InferenceRequest(request, self._actor.now(), self._actor.event())
        self._waiting.append(question)
        self._observations += len(question)
        if len(self._waiting) == 1 or self._observations >= self._batch_size:
            self._changed.set()
        await question.settled.wait()
        outcome = question.outcome
        if not isinstance(outcome, Acted):
            raise outcome or RuntimeError("the question was settled without an answer")
        return outcome

    async def take(self) -> list[InferenceRequest]:
        """The next batch, when it is due; whoever takes it settles each of its questions."""
        began = self._actor.now()
        while not self._is_due():
            if self._waiting and not self._timing:
                self._timing = True
                self._actor.start_soon(self._wake_at, self._waiting[0].arrived + self._deadline)
            self._changed = self._actor.event()
            await self._changed.wait()
        now = self._actor.now()
        self._held = (now - max(began, self._waiting[0].arrived)) / max(now - self._taken, 1e-9)
        self._taken = now
        return list(self._cut())

    @property
    def held_share(self) -> float:
        """Share of the time since the batch before in which questions waited only for others to come."""
        return self._held

    def turn_back(self, refusal: Refused) -> None:
        """Whoever waits gets the refusal."""
        while self._waiting:
            self._waiting.popleft().settle(refusal)
        self._observations = 0

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        oldest = self._waiting[0].arrived
        return self._observations >= self._batch_size or self._actor.now() >= oldest + self._deadline

    async def _wake_at(self, due: float) -> None:
        """One alarm at a time: when it goes off, the taker sets the next."""
        await self._actor.sleep(max(0.0, due - self._actor.now()))  # the loop may have come here late
        self._timing = False
        self._changed.set()

    def _cut(self) -> Iterable[InferenceRequest]:
        room = self._batch_size
        while self._waiting and (len(self._waiting[0]) <= room or room == self._batch_size):
            question = self._waiting.popleft()
            room -= len(question)
            self._observations -= len(question)
            yield question
