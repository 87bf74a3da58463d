"""Places that are taken by turns."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from actorq.actors.runtime.scheduler import Event


class ClosableSemaphore:
    """So many are inside at a time; of those who wait the oldest goes first."""

    def __init__(self, places: int, new_event: Callable[[], Event]) -> None:
        self._free = places
        self._new_event = new_event
        self._waiting: deque[Event] = deque()
        self._entered: set[Event] = set()
        self._error: Exception | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, one of the places is taken. Raises what `close` was given. Cancelled, the place is left."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        self._check()
        if self._free:
            self._free -= 1
            return
        event = self._new_event()
        self._waiting.append(event)
        try:
            await event.wait()
            self._check()
        except BaseException:
            if event in self._waiting:
                self._waiting.remove(event)
            elif event in self._entered:  # its turn came while it was cancelled
                self._leave()
            raise
        finally:
            self._entered.discard(event)

    def _leave(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        event = self._waiting.popleft()
        self._entered.add(event)
        event.set()

    def close(self, error: Exception) -> None:
        """From now on nobody enters: who waits, and who comes, gets the error."""
        self._error = error
        for event in self._waiting:
            event.set()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
