"""The learners of the benchmarks of replay, in a module that all nodes import."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio

import actorq.actors as actors
from actorq.actors import Group
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.client import ReplayClient
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities

READERS = 2


class Reading(actors.Actor):
    """Lends its port, and two learners' readers on it, to the benchmark."""

    replay: Group[Insert | DrawSample | UpdatePriorities]
    me: ClassVar[Reading]

    async def on_start(self) -> None:
        self.readers = [ReplayClient(self.replay, seed, self) for seed in range(READERS)]
        type(self).me = self


class Counting(Learner):
    """Counts its updates where the benchmark sees them."""

    made: ClassVar[int]
    warm: ClassVar[anyio.Event]

    @classmethod
    def begin(cls) -> None:
        cls.made, cls.warm = 0, anyio.Event()

    def progress(self, name: str, amount: int = 1) -> None:
        super().progress(name, amount)
        if name == "updates":
            type(self).made += amount
            if self.made >= 50:
                self.warm.set()


def reading(replay: str) -> Any:
    """Its declaration, wired to a replay."""
    return actors.ActorSpec(name="reading", cls=Reading, ports={"replay": (replay,)})
