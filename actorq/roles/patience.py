"""How long a parameter server's round waits for who is missing."""

from __future__ import annotations

from collections.abc import Callable

from actorq.actors import Actor


class Patience:
    """Calls `over` once a round's first gradient has waited for so long, unless the round is over by then.

    A round begins with its first gradient; without a limit it is never over.
    """

    def __init__(self, actor: Actor, seconds: float | None, over: Callable[[], None]) -> None:
        self._actor, self._seconds, self._over = actor, seconds, over
        self._since: float | None = None
        self._begun = actor.event()

    def came(self) -> None:
        """A gradient has come."""
        if self._since is None:
            self._since = self._actor.now()
            self._begun.set()

    def begin_round(self) -> None:
        """The update is made: what comes from here on is of the next round."""
        self._since = None

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
                self.begin_round()
                self._over()
