"""A parameter server driven by a test, which acts as the workers from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorSpec, Ref, System
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.distributed.encoded import Encoded
from actorq.learning.distributed.sharding import shard_slices
from actorq.roles.averaging.messages import JoinAveraging, Synchronize
from actorq.roles.parameter_server.coordinator import ParameterCoordinator
from actorq.roles.parameter_server.messages import (
    Fetch,
    Gradient,
    Pull,
    Pulled,
    Push,
    Pushed,
    Ticket,
)
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Version

AGENT = Agent(hidden=(), batch_size=4, n_step=1, dtype="float64", learning_rate=0.01, target_every_updates=4)
TASK = Task(env="CartPole-v1")
SIZE = 4 * 2 + 2


class Bystander(Actor):
    """Stands for a worker's life; what it would send, the test sends."""

    coordinator: Ref[Pull | Push] | None
    root: Ref[JoinAveraging | Synchronize] | None


def server(
    shards: int = 1,
    workers: int = 2,
    *,
    agent: Agent = AGENT,
    shard_config: ParameterServer.Config | None = None,
    coordinator: type[ParameterCoordinator] = ParameterCoordinator,
    shard: type[ParameterServer] = ParameterServer,
    **settings: Any,
) -> list[ActorSpec]:
    """Shards, the coordinator and bystanders, in file order."""
    tables = {"agent": agent, "task": TASK}

    def group(name: str, cls: type[Actor], count: int, **rest: Any) -> list[ActorSpec]:
        names = [f"{name}.{index}" for index in range(count)] if count > 1 else [name]
        return [
            ActorSpec(
                name=member,
                cls=cls,
                index=index,
                count=count,
                seed=derive_seed(0, member),
                tables=tables,
                **rest,
            )
            for index, member in enumerate(names)
        ]

    servers = group("server", shard, shards, config=shard_config or ParameterServer.Config())
    bystanders = group(
        "worker", Bystander, workers, config=Bystander.Config(), ports={"coordinator": ("coordinator",)}
    )
    ports = {"servers": tuple(each.name for each in servers)}
    [middle] = group(
        "coordinator", coordinator, 1, config=ParameterCoordinator.Config(**settings), ports=ports
    )
    return [*servers, middle, *bystanders]


class Workers:
    """What a test says to the server in the workers' names."""

    def __init__(self, system: System, shards: int = 1, size: int = SIZE) -> None:
        names = [f"server.{index}" for index in range(shards)] if shards > 1 else ["server"]
        self.servers = [system.ref(name) for name in names]
        self.coordinator = system.ref("coordinator")
        self.slices = shard_slices(size, shards)
        self._numbers: dict[int, int] = {}

    def ticket(self, worker: int) -> Ticket:
        self._numbers[worker] = self._numbers.get(worker, 0) + 1
        return Ticket(worker, 0, self._numbers[worker])

    async def pull(self, worker: int = 0, *, computing: bool = True) -> Pulled:
        pulled: Pulled = await self.coordinator.ask(Pull(worker, computing))
        return pulled

    async def push(self, gradient: NDArray[Any], version: Version, worker: int = 0) -> Pushed:
        ticket = self.ticket(worker)
        await self.send(gradient, version, ticket)
        pushed: Pushed = await self.coordinator.ask(Push(ticket, version, gradient.nbytes, 0))
        return pushed

    async def send(self, gradient: NDArray[Any], version: Version, ticket: Ticket) -> None:
        for server, part in zip(self.servers, self.slices, strict=True):
            piece = gradient[part].copy()
            await server.tell(Gradient(ticket, version, Encoded("whole", len(piece), piece)))

    async def read(self, pulled: Pulled, worker: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Whole parameters and target of a version."""
        fetched = [await server.ask(Fetch(worker, pulled.version, None, None)) for server in self.servers]
        return (
            np.concatenate([each.whole for each in fetched]),
            np.concatenate([each.target for each in fetched]),
        )
