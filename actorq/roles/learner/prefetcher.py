"""Feeding a learner: the next batches are drawn while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

from actorq.actors import Actor, Stopping

T = TypeVar("T")


class _Helping(Generic[T]):
    """What one call of `fetch` gives, once it has come."""

    def __init__(self, actor: Actor) -> None:
        self.came, self.taken = actor.event(), actor.event()
        self.result: T | None = None


class Prefetcher(Generic[T]):
    """Keeps `ahead` results of `fetch` ready or under way, and measures how long its user waits for one.

    So many calls of `fetch` are under way at a time, each in a task of the actor's: what one takes doesn't
    hold up the others. Results go to the user in the order they were asked for. Where a call is refused
    because the run stops, there is no further one.
    """

    def __init__(self, actor: Actor, fetch: Callable[[], Awaitable[T]], ahead: int) -> None:
        """Begins at once. `ahead`: at least 1."""
        self._actor, self._fetch = actor, fetch
        self._helpings: deque[_Helping[T]] = deque()
        self._more = actor.event()
        self._waited = 0.0
        self._since = actor.now()
        for _ in range(ahead):
            actor.start_soon(self._keep_one_ready)

    async def next(self) -> T:
        """The next result, as soon as there is one."""
        began = self._actor.now()
        while not self._helpings:
            self._more = self._actor.event()
            await self._more.wait()
        helping = self._helpings[0]
        await helping.came.wait()
        self._helpings.popleft()
        self._waited += self._actor.now() - began
        helping.taken.set()
        return cast(T, helping.result)

    def take_waiting_share(self) -> float:
        """The share of the time since this was asked last that `next` has waited."""
        now = self._actor.now()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share

    async def _keep_one_ready(self) -> None:
        while True:
            helping = _Helping[T](self._actor)
            self._helpings.append(helping)
            self._more.set()
            try:
                helping.result = await self._fetch()
            except Stopping:
                return
            helping.came.set()
            await helping.taken.wait()
