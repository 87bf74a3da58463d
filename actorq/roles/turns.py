"""Places that are taken by turns, the urgent first."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from actorq.actors.scheduling import Event


class Turns:
    """So many are inside at a time; of those who wait the lowest rank goes first, and of these the oldest."""

    def __init__(self, places: int, new_event: Callable[[], Event]) -> None:
        self._free = places
        self._new_event = new_event
        self._waiting: list[tuple[int, int, Event]] = []
        self._arrivals = count()
        self._entered: set[Event] = set()
        self._error: Exception | None = None

    @asynccontextmanager
    async def turn(self, rank: int = 0) -> AsyncIterator[None]:
        """Inside, one of the places is taken. Raises what `close` was given."""
        await self._enter(rank)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, rank: int) -> None:
        self._check()
        if self._free:
            self._free -= 1
            return
        event = self._new_event()
        waiter = (rank, next(self._arrivals), event)
        heapq.heappush(self._waiting, waiter)
        try:
            await event.wait()
            self._check()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            elif event in self._entered:  # its turn came while it was cancelled
                self._leave()
            raise
        finally:
            self._entered.discard(event)

    def _leave(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        *_, event = heapq.heappop(self._waiting)
        self._entered.add(event)
        event.set()

    def close(self, error: Exception) -> None:
        """From now on nobody enters: who waits, and who comes, gets the error."""
        self._error = error
        for *_, event in self._waiting:
            event.set()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
