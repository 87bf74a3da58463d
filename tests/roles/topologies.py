"""A parameter server and real workers that learn from batches supplied by the test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorSpec
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.worker import LocalReplayConfig, Worker
from actorq.roles.parameter_server.coordinator import ParameterCoordinator
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.testing import Record
from tests.actors.world import spec

TASK = Task(env="CartPole-v1")
MEMORY = LocalReplayConfig(min_size=1, capacity=64, sampling="uniform")


def names_of(role: str, count: int) -> tuple[str, ...]:
    return tuple(f"{role}.{index}" for index in range(count))


def crew(
    worker: type[Worker],
    workers: int,
    shards: int,
    agent: Agent,
    *,
    coordinator: type[ParameterCoordinator] = ParameterCoordinator,
    shard: type[ParameterServer] = ParameterServer,
    shard_config: ParameterServer.Config | None = None,
    worker_config: Worker.Config | None = None,
    task: Task = TASK,
    **settings: Any,
) -> list[ActorSpec]:
    """Shards, the coordinator with these settings, and workers, in file order."""
    tables = {"task": task, "agent": agent}
    servers, names = names_of("server", shards), names_of("worker", workers)

    def group(members: tuple[str, ...], cls: type[Actor], ports: Any, config: Any) -> list[ActorSpec]:
        return [
            spec(
                name,
                cls,
                ports,
                config,
                index=index,
                count=len(members),
                seed=derive_seed(0, name),
                tables=tables,
            )
            for index, name in enumerate(members)
        ]

    coordinator_config = ParameterCoordinator.Config(**settings)
    given = worker_config or Worker.Config(envs=1, chunk_steps=2, replay=MEMORY)
    return [
        *group(servers, shard, None, shard_config),
        *group(("coordinator",), coordinator, {"servers": servers}, coordinator_config),
        *group(names, worker, {"servers": servers, "coordinator": "coordinator"}, given),
    ]


def batch_of(agent: Agent, worker: int, number: int) -> Batch:
    """A worker's batch of that number, always the same: states as CartPole's, importance weights 1."""
    generator, count = np.random.default_rng((worker, number)), agent.batch_size
    states = generator.normal(size=(2, count, 4)).astype(np.float32)
    return Batch(
        ids=np.arange(count),
        observations=states[0],
        actions=generator.integers(0, 2, count),
        returns=generator.normal(size=count).astype(np.float32),
        discounts=generator.choice(np.asarray([0.0, 0.97], np.float32), count),
        next_observations=states[1],
        weights=np.ones(count, np.float32),
        probabilities=np.full(count, 1 / 64),
    )


class GivenBatches(Worker):
    """Explores nothing: it is its own source of batches, which `_draw` makes."""

    _drawn = -1

    def _open_source(self) -> BatchSource:
        return self

    async def next(self) -> ReplayDraw:
        self._drawn += 1
        if self._drawn == 0:  # parameters are read before the first batch
            return []
        batch = self._draw()
        return [[batch]]

    def _draw(self) -> Batch:
        """The batch number `_drawn`, from 1."""
        raise NotImplementedError

    async def update(self, priorities: Mapping[int, NDArray[np.float32]]) -> None:
        pass

    async def _learn(self, source: BatchSource, draw: Any) -> None:
        for (batch,) in draw:
            await self._learn_from(batch)

    async def _learn_from(self, batch: Batch) -> None:
        await super()._learn(self, [[batch]])


class Diligent(GivenBatches):
    """Learns from `batch_of`, and rests after so many gradients."""

    gradients: ClassVar[float] = math.inf
    resting: ClassVar[Record[int]]

    def _draw(self) -> Batch:
        return batch_of(self.agent, self.index, self._drawn)

    async def _learn_from(self, batch: Batch) -> None:
        if self._drawn > self.gradients:
            self.resting.add(self.index)
            await self.event().wait()
        await super()._learn_from(batch)


class Level(ParameterCoordinator):
    """All parameters begin equal. Where all entries of each gradient are, too, they stay so."""

    def initial_parameters(self) -> NDArray[Any]:
        return np.zeros_like(super().initial_parameters())
