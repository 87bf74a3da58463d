"""Which actors live: deaths are learned of at once, and what comes from before one is told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from actorq.actors import Actor, ActorDied, Ref, Refused
from actorq.roles.parameter_server.messages import Attend, Left

DIED = "the worker has died"

HEALTHY_SECONDS = 1.0
"""Who answers or dies only after that has lived."""

PATIENCE = 8
"""Deaths in a row, of lives that short, until an actor is asked less often."""

PAUSE_SECONDS = 10.0
"""Between two questions at most."""


class Presence:
    """What an actor answers to `Attend`: nothing, until it ends in order or is asked anew."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._over = False
        self._answered = actor.event()

    async def attend(self) -> Left:
        """One question at a time: who asked before has died since."""
        self._answered.set()
        self._answered = mine = self._actor.event()
        if not self._over:
            await mine.wait()
        return Left()

    def end(self) -> None:
        self._over = True
        self._answered.set()


async def attend(
    attendant: Actor,
    actor: Ref[Attend],
    died: Callable[[], None],
    missed: Callable[[], None] = lambda: None,
) -> None:
    """Call `died` at each of an actor's deaths, until it ends in order.

    A question waits for the next life; but to one that is never started again it fails at once, and ever
    longer pauses follow. After each of them `missed` is called: there may have been a death in it.
    """
    failures = 0
    while True:
        began = attendant.now()
        try:
            await actor.ask(Attend())
            return
        except ActorDied:
            died()
        failures = 0 if attendant.now() - began > HEALTHY_SECONDS else failures + 1
        if pause := pause_after(failures):
            await attendant.sleep(pause)
            missed()


def pause_after(failures: int) -> float:
    """Seconds before the next question, by how many have failed in a row."""
    return 0.0 if failures <= PATIENCE else min(0.01 * 2.0 ** (failures - PATIENCE), PAUSE_SECONDS)


class Lives:
    """The workers' lives, by what is heard of them and of their deaths. A life is told by its restarts."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._heard: dict[int, int] = {}
        self._ended: dict[int, int] = {}

    def hear(self, worker: int, life: int) -> None:
        """Raises Refused for what a worker sent before it died, and for one that there isn't."""
        if not 0 <= worker < self._workers:
            raise Refused(f"there is no worker {worker}; there are {self._workers}")
        if self.is_over(worker, life):
            raise Refused(DIED)
        self._heard[worker] = life

    def is_over(self, worker: int, life: int) -> bool:
        return life <= self._ended.get(worker, -1)

    def end(self, worker: int) -> int | None:
        """The worker's life is over; returns which, or None if nothing was heard of it."""
        life = self._heard.get(worker)
        if life is not None:
            self._ended[worker] = life
        return life

    def dead(self) -> Iterator[int]:
        """Those who have not been heard of since their death."""
        return (worker for worker, life in self._ended.items() if self._heard[worker] == life)
