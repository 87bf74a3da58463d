"""Priority executor: one computation at a time, the most urgent first, in threads."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count
from threading import Lock
from typing import Any, TypeVar, TypeVarTuple, Unpack

from actorq.actors import Actor
from actorq.actors.sync import Future, Semaphore

from .adaptive_executor import AdaptiveExecutor

V = TypeVar("V")
Args = TypeVarTuple("Args")


class PriorityExecutor:
    """Runs one computation at a time: the waiting one of the lowest rank, and of these the oldest.

    Long ones run in one of two threads, the other of which waits: the next computation begins when the last
    one ends, not when the loop, which may be busy sending the result, is notified of it.
    """

    threads = 2

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._turns = Semaphore(actor, self.threads)
        self._computing = Lock()
        self._waiting: list[tuple[int, int, Callable[[], Any], Future[Any]]] = []
        self._waiting_lock = Lock()
        self._arrivals = count()
        self._under_way = 0

    async def __call__(
        self, kind: AdaptiveExecutor, function: Callable[[Unpack[Args]], V], *args: *Args, rank: int = 0
    ) -> V:
        """Call `function(*args)`; raises its error. Cancelled, it is computed all the same, and the result
        dropped.
        """
        if self._at_once(kind):
            return kind.timed(function, *args)
        result = Future[V](self._actor)
        computation: Callable[[], Any] = partial(kind.timed, function, *args)
        with self._waiting_lock:
            heapq.heappush(self._waiting, (rank, next(self._arrivals), computation, result))
        self._under_way += 1
        self._actor.start_soon(self._compute_one)
        return await result.wait()

    def _at_once(self, kind: AdaptiveExecutor) -> bool:
        """Whether to compute inline. Always in a deterministic run, where measured times must not matter."""
        return not self._under_way and (kind.is_short or self._actor.deterministic)

    async def _compute_one(self) -> None:
        """Run the most urgent computation. One such task is started for each computation."""
        async with self._turns:
            settle = await self._actor.in_thread(self._compute_most_urgent)
        self._under_way -= 1
        settle()

    def _compute_most_urgent(self) -> Callable[[], None]:
        """Compute; returns the call that sets the result, to be made on the actors' loop."""
        with self._computing:
            with self._waiting_lock:
                *_, computation, result = heapq.heappop(self._waiting)
            try:
                return partial(result.set, computation())
            except BaseException as error:
                return partial(result.fail, error)
