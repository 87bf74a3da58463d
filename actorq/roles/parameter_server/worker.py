"""The gradient worker: explores, remembers, computes gradients and pushes them to a parameter server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import Meta

from actorq.actors import ActorSpec, Group, Ref, State, handles
from actorq.envs.task import share_of, tasks_in
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.replay.chunk import Batch
from actorq.replay.config import ReplayConfig
from actorq.roles.common.adaptive_executor import TorchThreads
from actorq.roles.common.death_watch import Presence
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import compile_problems, device_problems
from actorq.roles.explorer.rollout import ExplorationConfig, LocalRollout
from actorq.roles.explorer.task_assignment import choice_problems, idle_tasks
from actorq.roles.replay.messages import Version
from actorq.roles.replay.sizing import replay_memory

from .client import (
    GradientCodec,
    OutlierDeviations,
    ParameterServerClient,
    ReadEveryGradients,
    TopKShare,
    front_problems,
)
from .messages import Attend, Fetch, Gradient, Left, Pull, Push


class LocalReplayConfig(ReplayConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's own replay. `samples_per_insert` is kept to exactly; without it a chunk pays for a batch."""

    capacity: Annotated[
        int, Meta(gt=0, le=2**30, description="transitions held at most; the oldest leave first")
    ] = 50_000


class Worker(LearningActor):
    """Computes the gradient of the DQN loss on batches of its own experience (Gorila, Nair et al. 2015).

    It acts and learns with a version of the server's parameters and target, pushes the gradient, and goes on
    with the version that the answer names; see `ParameterServerClient`.
    """

    adapts_scale = False

    class Config(ExplorationConfig):
        device: Annotated[
            Device, Meta(description="where the network acts and learns: auto, cpu, cuda:0, …")
        ] = "auto"
        compile: Compile = "off"
        torch_threads: TorchThreads = None
        replay: Annotated[LocalReplayConfig, Meta(description="the worker's own replay")] = (
            LocalReplayConfig()
        )
        gradient_codec: GradientCodec = "whole"
        top_k_share: TopKShare = 0.01
        read_every_gradients: ReadEveryGradients = 1
        outlier_deviations: OutlierDeviations = None

    servers: Group[Gradient | Fetch]
    front: Ref[Pull | Push]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from super().problems(config, tables)
        yield from choice_problems(config.task, tables)
        if len({share_of(task) for task in tasks_in(tables)}) > 1:
            yield (
                "tasks",
                "a worker learns one task in batches of its own: a task's share is how many workers explore"
                " it, so leave share out",
            )
        replay: LocalReplayConfig = config.replay
        if replay.error_buffer_samples is not None:
            yield (
                "config.replay.error_buffer_samples",
                "a worker keeps to samples_per_insert exactly: leave it out",
            )
        unlimited = msgspec.structs.replace(replay, samples_per_insert=None, error_buffer_samples=None)
        for field, sentence in unlimited.problems():
            yield f"config.replay.{field}", sentence
        chunk = config.envs * config.chunk_steps
        if replay.capacity < chunk:
            yield (
                "config.replay.capacity",
                f"{replay.capacity} is less than one chunk, envs * chunk_steps = {chunk} transitions",
            )

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        yield from front_problems(spec, specs)
        for name in idle_tasks(spec, specs, "front"):
            yield "ports.front", f'nobody works on the task "{name}", and it would never be learned'

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from device_problems(config.device)
        yield from compile_problems(config.compile)

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        return replay_memory(cast(Worker.Config, spec.config).replay, [spec])

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        for field, sentence in config.replay.state_problems(state["replay"]):
            yield f"config.replay.{field}", sentence

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        from actorq.replay import make_replay

        config = self.config
        self._pusher = ParameterServerClient(
            self, config, self.all_tasks, self.agent, self.servers, self.front
        )
        self._exploration = LocalRollout(self, config, self.all_tasks, self.agent, config.device)
        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        self._replay = await self.in_thread(partial(make_replay, config.replay, seed=self.seed))
        self._inserted = self._batches = 0
        self._credit = 0.0
        """Batches of `agent.batch_size` that the experience pays for."""
        self._acts_with: Version | None = None
        self._presence = Presence(self)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()

    async def run(self) -> None:
        await self._pusher.read(computing=False)
        await self._fill()
        await self._pusher.read(computing=True)
        while True:
            while self._credit < (price := self._pusher.rows / self.agent.batch_size):
                await self._explore()
            self._credit -= price
            await self._learn(self._draw())

    # Experience.

    async def _fill(self) -> None:
        """Explore until there is enough to learn from."""
        while self._inserted < self.config.replay.min_size:
            await self._explore()

    async def _explore(self) -> None:
        """Put one chunk into the replay."""
        if self._acts_with != self._pusher.version:
            self._exploration.act_with(self._pusher.online.vector.numpy(force=True))
            self._acts_with = self._pusher.version
        chunk = self._exploration.explore()
        self._replay.add(chunk)
        if self._inserted >= self.config.replay.min_size:
            self._credit += self._paid_by(len(chunk))
        self._inserted += len(chunk)
        self.report("replay_size", len(self._replay))
        if not self._pusher.in_trouble:
            self._exploration.count()
        await self.sleep(0)  # others wait for the loop

    def _paid_by(self, inserted: int) -> float:
        """Batches that so many new transitions pay for."""
        samples_per_insert = self.config.replay.samples_per_insert
        if samples_per_insert is None:
            return 1.0
        return inserted * samples_per_insert / self.agent.batch_size

    def _draw(self) -> Batch:
        batch = self._replay.sample(self._pusher.rows, self.config.replay.beta(self._batches))
        self._batches += 1
        return batch

    async def _learn(self, batch: Batch) -> None:
        """One gradient, on its way from a batch to the parameters that came of it."""
        own = self._exploration.choice.task
        batches = [batch if task == own else None for task in range(len(self.all_tasks))]
        learned = await self._pusher.compute(*batches)
        if learned is None:
            return
        if self.config.replay.sampling == "prioritized":
            self._replay.update(batch.ids, np.abs(learned.td_errors))
        await self._pusher.push(learned.loss)

    async def on_stop(self) -> None:
        self._exploration.close()

    def state(self) -> State:
        return {
            "exploration": self._exploration.state(),
            "replay": self._replay.state(),
            "inserted": self._inserted,
            "batches": self._batches,
            "credit": self._credit,
            **self._pusher.state(),
        }

    def load_state(self, state: State) -> None:
        self._exploration.load_state(state["exploration"])
        self._replay.load_state(state["replay"])
        self._inserted, self._batches = state["inserted"], state["batches"]
        self._credit = state["credit"]
        self._pusher.load_state(state)
