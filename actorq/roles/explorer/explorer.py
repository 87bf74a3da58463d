"""Explorer: acts in its environments with its own epsilon and sends the transitions to replay."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta

from actorq.actors import ActorDied, ActorSpec, Feed, Group, Ref, SettingProblem, State, handles
from actorq.learning.device import Device
from actorq.learning.networks.numpy_acting import needs_torch
from actorq.replay.chunk import Chunk
from actorq.roles.common.adaptive_executor import set_torch_threads
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.rollout import ExplorationConfig, LocalRollout
from actorq.roles.common.task_assignment import choice_problems, idle_problems
from actorq.roles.common.wiring import shard_problems
from actorq.roles.inference.messages import Act
from actorq.roles.replay.messages import Insert, Version, Weights

from .remote_rollout import RemoteRollout


class Explorer(LearningActor):
    """Explores with the newest weights it has received, or asks an inference actor; sends each chunk to
    replay.

    With several tasks the shards of the replay are divided among them in blocks, as by `ReplayDataset`. One
    chunk is in flight at most: when the replay's rate limiter delays it, exploring waits. Environment steps
    and episodes count once their chunk is inserted.
    """

    class Config(ExplorationConfig):
        device: Annotated[Device, Meta(description="where the network acts: auto, cpu, cuda:0, …")] = "auto"

    replay: Group[Insert]
    weights: Feed[Weights] | None
    inference: Group[Act] | None

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        yield from choice_problems(config.task, tables)

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        wired = [port for port in ("weights", "inference") if port in spec.ports]
        if len(wired) != 1:
            yield (
                f"ports.{wired[-1]}" if wired else "ports",
                "wire either weights, to act with a copy of them, or inference, to ask an actor that has one",
            )
        elif wired == ["inference"] and spec.config.device != "auto":  # type: ignore[attr-defined]
            yield "config.device", "is for weights of its own; this explorer asks inference"
        yield from super().wiring_problems(spec, specs)
        if problems := list(shard_problems(spec, specs)):
            yield from problems
        else:
            yield from idle_problems(spec, specs)

    async def on_start(self) -> None:
        self._version = Version(0, 0)
        self._have_weights = self.event()
        self._lost_the_last = False
        self._chunks = 0
        self._exploration: LocalRollout | RemoteRollout
        if self.inference is None:
            self._exploration = await self._with_weights()
        else:
            asked = self.inference[self.index % len(self.inference)]
            self._exploration = RemoteRollout(self, self.config, asked)

    async def _with_weights(self) -> LocalRollout:
        # The first actor in a process sets torch up for all of them.
        first_to_use_torch = needs_torch(self.agent, self.config.device) and "torch" not in sys.modules
        if first_to_use_torch:
            await self.load_torch()
        exploration = LocalRollout(self, self.config, self.config.device)
        if first_to_use_torch:
            set_torch_threads(None, exploration.parameters)
        return exploration

    @handles
    async def follow(self, weights: Weights) -> None:
        assert isinstance(self._exploration, LocalRollout)
        self._exploration.act_with(weights.parameters)
        self._version = weights.version
        self._have_weights.set()

    async def run(self) -> None:
        while True:
            await self._explore()

    async def _explore(self) -> None:
        """Fill one chunk and send it."""
        if isinstance(self._exploration, RemoteRollout):
            chunk, version = await self._exploration.explore()
        else:
            await self._have_weights.wait()
            chunk, version = self._exploration.explore(), self._version
        await self._send(chunk, version)
        # Not before: an incarnation whose chunks are refused makes no progress and hits its restart limit.
        self._exploration.count()

    async def _send(self, chunk: Chunk, version: Version) -> None:
        """Have a chunk inserted. A chunk over which the replay crashed is lost; a second in a row is a
        crash.
        """
        try:
            await self._next_shard().ask(Insert(chunk, version))
        except ActorDied:
            if self._lost_the_last:
                raise
            self._lost_the_last = True
        else:
            self._lost_the_last = False

    def _next_shard(self) -> Ref[Insert]:
        """The shards of its task in turn, each explorer beginning with another, so that all get a part of
        everything.
        """
        self._chunks += 1
        choice = self._exploration.choice
        block = len(self.replay) // len(self.all_tasks)
        return self.replay[choice.task * block + (choice.index + self._chunks) % block]

    async def on_stop(self) -> None:
        self._exploration.close()

    def state(self) -> State:
        return self._exploration.state()

    def load_state(self, state: State) -> None:
        self._exploration.load_state(state)
