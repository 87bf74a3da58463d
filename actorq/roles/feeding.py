"""Feeding a learner: the next batches are drawn while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from actorq.actors import Actor, Refused

from .gate import STOPPING

T = TypeVar("T")


class Feeding(Generic[T]):
    """Keeps `ahead` results of `fetch` ready, and measures how long its user waits for one.

    `fetch` is called by one task of the actor's, one call at a time. When it is refused because the run
    stops, it is called no more.
    """

    def __init__(self, actor: Actor, fetch: Callable[[], Awaitable[T]], ahead: int) -> None:
        """Begins at once. `ahead`: at least 1."""
        self._actor, self._fetch, self._ahead = actor, fetch, ahead
        self._ready: deque[T] = deque()
        self._came, self._taken = actor.event(), actor.event()
        self._waited = 0.0
        self._since = actor.now()
        actor.start_soon(self._fill)

    async def next(self) -> T:
        """The next result, as soon as there is one."""
        began = self._actor.now()
        while not self._ready:
            self._came = self._actor.event()
            await self._came.wait()
        self._waited += self._actor.now() - began
        self._taken.set()
        return self._ready.popleft()

    def take_waiting_share(self) -> float:
        """The share of the time since this was asked last that `next` has waited."""
        now = self._actor.now()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share

    async def _fill(self) -> None:
        while True:
            while len(self._ready) >= self._ahead:
                self._taken = self._actor.event()
                await self._taken.wait()
            try:
                fetched = await self._fetch()
            except Refused as refusal:
                if refusal.reason == STOPPING:
                    return
                raise
            self._ready.append(fetched)
            self._came.set()
