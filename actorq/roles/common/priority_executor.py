"""One computation at a time, the urgent first, in threads that go on to the next by themselves."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count
from threading import Lock
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

from actorq.actors import Actor

from .adaptive_executor import AdaptiveExecutor
from .semaphore import ClosableSemaphore

V = TypeVar("V")
Args = TypeVarTuple("Args")


class PriorityExecutor:
    """Computes one thing at a time; of what waits the lowest rank goes first, and of these the oldest.

    What takes long is computed in a thread, and while one computes another stands by: the next computation
    begins when the last one ends, not when the loop comes to hear of it, which may be sending what was made.
    """

    threads = 2

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._turns = ClosableSemaphore(self.threads, actor.event)
        self._computing = Lock()
        self._waiting: list[tuple[int, int, Computation]] = []
        self._waiting_lock = Lock()
        self._arrivals = count()
        self._under_way = 0

    async def __call__(
        self, kind: AdaptiveExecutor, function: Callable[[Unpack[Args]], V], *args: *Args, rank: int = 0
    ) -> V:
        """`function(*args)`, and what it raises. Cancelled, it is computed all the same, and dropped."""
        if self._at_once(kind):
            return kind.timed(function, *args)
        computation = Computation(partial(kind.timed, function, *args), self._actor)
        with self._waiting_lock:
            heapq.heappush(self._waiting, (rank, next(self._arrivals), computation))
        self._under_way += 1
        self._actor.start_soon(self._compute_one)
        await computation.over.wait()
        return cast(V, computation.result())

    def _at_once(self, kind: AdaptiveExecutor) -> bool:
        """Right here. In a deterministic run always: there, how long something takes must not matter."""
        return not self._under_way and (kind.is_short or self._actor.deterministic)

    async def _compute_one(self) -> None:
        """As many of these are started as computations, each for the most urgent one when its turn comes."""
        async with self._turns.turn():
            computation = await self._actor.in_thread(self._compute_most_urgent)
        self._under_way -= 1
        computation.over.set()

    def _compute_most_urgent(self) -> Computation:
        with self._computing:
            computation = self._take_most_urgent()
            computation.compute()
        return computation

    def _take_most_urgent(self) -> Computation:
        with self._waiting_lock:
            *_, computation = heapq.heappop(self._waiting)
        return computation


class Computation:
    """Something to compute, and what came of it."""

    def __init__(self, function: partial[Any], actor: Actor) -> None:
        self.over = actor.event()
        self.function = function
        self._result: Any = None
        self._error: BaseException | None = None

    def compute(self) -> None:
        try:
            self._result = self.function()
        except BaseException as error:  # for him who waits for it
            self._error = error
        del self.function  # and what it was given

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result
