"""Gradient learners before a parameter server, and batches supplied by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from msgspec.structs import replace as replace_fields

from actorq.actors import Actor, ActorSpec, Stopping, handles
from actorq.actors.spec import derive_seed
from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from actorq.roles.learner.gradient_learner import GradientLearner
from actorq.roles.parameter_server.coordinator import ParameterCoordinator
from actorq.roles.replay.messages import DrawSample, SampleReply, UpdatePriorities
from actorq.testing import Record
from tests.actors.world import fresh, spec
from tests.replay.chunks import sample_of
from tests.roles.parameter_server.server import TASK, server
from tests.roles.topologies import batch_of


class Pile(Actor):
    """A replay's stand-in: gives so many batches of a learner's, and hears of their priorities."""

    agent: ClassVar[Agent]
    batches: ClassVar[int]
    heard: ClassVar[Record[tuple[int, UpdatePriorities]]]

    async def on_start(self) -> None:
        self._given = 0
        self._end = self.event()

    @handles(concurrent=4)
    async def sample(self, request: DrawSample) -> SampleReply:
        if self._given >= self.batches:
            await self._end.wait()
            raise Stopping
        numbers = range(self._given + 1, self._given + request.batches + 1)
        self._given = numbers.stop - 1
        batch = interleaved([self.batch(number) for number in numbers])
        return SampleReply(sample_of(batch), 1.0, 1.0)

    def batch(self, number: int) -> Batch:
        """Always the same; its transitions go by numbers from batch to batch."""
        batch = batch_of(self.agent, self.index, number)
        return replace_fields(batch, ids=batch.ids + (number - 1) * len(batch))

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        self.heard.add((self.index, message))

    def on_drain(self) -> None:
        self._end.set()


def interleaved(batches: list[Batch]) -> Batch:
    """What `Batch.split` takes apart into these."""

    def woven(name: str) -> Any:
        stacked = np.stack([getattr(batch, name) for batch in batches], axis=1)
        return stacked.reshape(-1, *stacked.shape[2:])

    return Batch(**{name: woven(name) for name in Batch.__struct_fields__})


def piles(
    count: int, agent: Agent, batches: int, heard: Record[tuple[int, UpdatePriorities]]
) -> list[ActorSpec]:
    """One for each learner."""
    made = fresh(Pile, agent=agent, batches=batches, heard=heard)
    return [spec(f"pile.{index}", made, index=index, count=count) for index in range(count)]


def learners(
    replays: Sequence[tuple[str, ...]],
    shards: int,
    agent: Agent,
    config: GradientLearner.Config | None = None,
    **settings: Any,
) -> list[ActorSpec]:
    """A parameter server of so many shards, its coordinator, and a learner before each of these replays."""
    *others, coordinator, _ = server(shards, 1, agent=agent)
    count = len(replays)
    names = tuple(f"learner.{index}" for index in range(count))
    ports = {"servers": coordinator.ports["servers"], "coordinator": ("coordinator",)}
    tables = {"agent": agent, "task": TASK}
    return [
        *others,
        replace(coordinator, config=ParameterCoordinator.Config(**settings)),
        *(
            spec(
                name,
                GradientLearner,
                {"replay": replay, **ports},
                config,
                index=index,
                count=count,
                seed=derive_seed(0, name),
                tables=tables,
            )
            for index, (name, replay) in enumerate(zip(names, replays, strict=True))
        ),
    ]
