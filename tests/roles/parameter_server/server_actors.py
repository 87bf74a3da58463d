"""Replacements of a parameter server's actors, with replies set by the test, and the worker before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from actorq.actors import Actor, ActorSpec, Refused, State, System, handles
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.distributed.encoded import Encoded
from actorq.learning.distributed.sharding import shard_slices
from actorq.replay.chunk import Batch
from actorq.roles.learner.worker import LocalReplayConfig, Worker
from actorq.roles.parameter_server.messages import (
    Fetch,
    Fetched,
    Gradient,
    Pull,
    Pulled,
    Push,
    Pushed,
)
from actorq.roles.replay.messages import Version
from actorq.testing import Record
from tests.actors.world import AT_ONCE, fresh
from tests.actors.world import spec as wired
from tests.roles.actors import Watch
from tests.roles.topologies import GivenBatches

AGENT = Agent(hidden=(8,), batch_size=16, target_every_updates=5)
SIZE = 4 * 8 + 8 + 8 * 2 + 2
TABLES = {"task": Task(env="CartPole-v1"), "agent": AGENT}
CHUNK = 2 * 4
MIN_SIZE = 40
SHARDS = ("server.0", "server.1")


def settings(**config: Any) -> Worker.Config:
    memory = LocalReplayConfig(min_size=MIN_SIZE, sampling="uniform", samples_per_insert=3.0)
    return Worker.Config(**{"envs": 2, "chunk_steps": 4, "epsilon": 0.5, "replay": memory, **config})


def members(
    names: tuple[str, ...], cls: type[Actor], ports: Any = None, config: Any = None
) -> list[ActorSpec]:
    return [
        wired(name, cls, ports, config, index=i, count=len(names), seed=derive_seed(0, name), tables=TABLES)
        for i, name in enumerate(names)
    ]


class Shelf(Actor):
    """A shard's stand-in: every version's parameters are the same."""

    gradients: ClassVar[Record[tuple[int, Gradient]]]
    fetches: ClassVar[Record[Fetch]]
    answer: ClassVar[Callable[[Fetch, int], None]] = lambda request, fetches: None

    @handles
    async def gradient(self, message: Gradient) -> None:
        self.gradients.add((self.index, message))

    @handles
    async def fetch(self, request: Fetch) -> Fetched:
        self.fetches.add(request)
        type(self).answer(request, len(self.fetches.entries))
        part = shard_slices(SIZE, 2)[self.index]
        whole = np.random.default_rng(3).normal(0, 0.3, SIZE).astype(np.float32)[part]
        return Fetched(whole, (), whole.copy())


DeliveryState = Literal["accepted", "late", "stale", "refused", "crash"]


class Door(Actor):
    """A coordinator's stand-in: one version more with each push, whatever becomes of it."""

    pulls: ClassVar[Record[Pull]]
    pushes: ClassVar[Record[Push]]
    delivery_state: ClassVar[Callable[[int], DeliveryState]] = lambda number: "accepted"

    def newest(self) -> Pulled:
        return Pulled(Version(self.restarts + 1, len(self.pushes.entries)), 0)

    @handles
    async def pull(self, request: Pull) -> Pulled:
        self.pulls.add(request)
        return self.newest()

    @handles
    async def push(self, request: Push) -> Pushed:
        self.pushes.add(request)
        match type(self).delivery_state(len(self.pushes.entries)):
            case "refused":
                raise Refused("it smells of NaN")
            case "crash":
                raise RuntimeError("the coordinator has died")
            case delivery_state:
                return Pushed(delivery_state, self.newest())


class Given(GivenBatches):
    """Learns from the same batch again and again, without exploring; gradients in a row are equal."""

    returns: ClassVar[Callable[[int], float]] = lambda number: 1.0

    def _draw(self) -> Batch:
        count, generator = AGENT.batch_size, np.random.default_rng(0)
        states = generator.normal(size=(2, count, 4)).astype(np.float32)
        return Batch(
            ids=np.arange(count),
            observations=states[0],
            actions=generator.integers(0, 2, count),
            returns=np.full(count, type(self).returns(self._drawn), np.float32),
            discounts=np.full(count, 0.9, np.float32),
            next_observations=states[1],
            weights=np.ones(count, np.float32),
            probabilities=np.full(count, 0.1),
        )


class Few(Given):
    """Makes no more than so many gradients."""

    gradients: ClassVar[int] = 10
    done: ClassVar[Record[int]]

    async def _learn_from(self, batch: Batch) -> None:
        if self._drawn > self.gradients:
            self.done.add(self.gradients)
            await self.event().wait()
        await super()._learn_from(batch)


class Scene:
    """One worker before stand-ins, and all they have heard."""

    def __init__(self, cls: type[Worker] = Given, config: Worker.Config | None = None, **said: Any) -> None:
        self.pulls, self.pushes = Record[Pull](), Record[Push]()
        self.fetches, self.gradients = Record[Fetch](), Record[tuple[int, Gradient]]()
        self.watch = Watch()
        door = {"delivery_state": said.get("delivery_state", Door.delivery_state)}
        shelf = {"answer": said.get("answer", Shelf.answer)}
        self.specs = [
            *members(SHARDS, fresh(Shelf, gradients=self.gradients, fetches=self.fetches, **shelf)),
            wired("coordinator", fresh(Door, pulls=self.pulls, pushes=self.pushes, **door)),
            *members(
                ("worker.0",), cls, {"servers": SHARDS, "coordinator": "coordinator"}, config or settings()
            ),
        ]

    async def play(self, until: int | Record[int]) -> State:
        """Until there have been so many pushes, or something is recorded; returns the worker's state."""
        async with System(self.specs, AT_ONCE, deterministic=True, reports=self.watch) as system:
            await (self.pushes.reaches(until) if isinstance(until, int) else until.reaches(1))
        return system.final_states["worker.0"]

    def slices(self, shard: int) -> dict[int, Encoded]:
        """By their gradients' numbers."""
        return {each.ticket.number: each.slice for index, each in self.gradients.entries if index == shard}
