"""How long a parameter server's round waits for who is missing."""

from __future__ import annotations

from collections.abc import Callable

from actorq.actors import Actor


class StragglerTimeout:
    """Calls `over` once gradients of a round have waited for so long. Without a limit it never does."""

    def __init__(self, actor: Actor, seconds: float | None, over: Callable[[], None]) -> None:
        self._actor, self._seconds, self._over = actor, seconds, over
        self._since: float | None = None
        self._begun = actor.event()

    def follow(self, waiting: bool) -> None:
        """Whether gradients of the round wait for others. From the first of them on it is counted, until
        there are none any more: the update was made, or who had pushed them died."""
        if not waiting:
            self._since = None
        elif self._since is None:
            self._since = self._actor.now()
            self._begun.set()

    async def run(self) -> None:
        if self._seconds is None:
            return
        while True:
            if self._since is None:
                self._begun = self._actor.event()
                await self._begun.wait()
            elif (left := self._since + self._seconds - self._actor.now()) > 0.0:
                await self._actor.sleep(left)  # rounds may come and go meanwhile: the newest counts
            else:
                self._since = None
                self._over()
