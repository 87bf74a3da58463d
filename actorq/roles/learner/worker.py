"""Gradient worker: explores, keeps a replay of its own, and pushes gradients to a parameter server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import ActorSpec, Group, Ref, SettingProblem, State
from actorq.envs.task import share_of, tasks_in
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.replay.chunk import Batch
from actorq.replay.config import ReplayConfig
from actorq.roles.common.adaptive_executor import TorchThreads
from actorq.roles.common.replay_memory import replay_memory
from actorq.roles.common.rollout import ExplorationConfig, LocalRollout
from actorq.roles.common.task_assignment import choice_problems, idle_tasks
from actorq.roles.parameter_server.client import (
    GradientCodec,
    OutlierDeviations,
    ParameterServerClient,
    ReadEveryGradients,
    TopKShare,
    coordinator_problems,
)
from actorq.roles.parameter_server.messages import Fetch, Gradient, Pull, Push
from actorq.roles.replay.messages import Version

from .base import BaseLearner, BatchSource, ComputedUpdate


class LocalReplayConfig(ReplayConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's own replay. `samples_per_insert` is met exactly; without it each chunk allows one batch."""

    capacity: Annotated[
        int, Meta(gt=0, le=2**30, description="transitions held at most; the oldest are evicted first")
    ] = 50_000


class Worker(BaseLearner):
    """Computes the gradient of the DQN loss on batches of its own experience (Gorila, Nair et al. 2015).

    It explores and computes with a version of the server's parameters and target, pushes the gradient, and
    continues with the version that the reply names; see `ParameterServerClient`.
    """

    adapts_scale = False
    renamed_keys = {"ports.front": "ports.coordinator"}  # noqa: RUF012

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
    coordinator: Ref[Pull | Push]
    _method: ParameterServerClient

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
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
            problem = "a worker meets samples_per_insert exactly: leave it out"
            yield "config.replay.error_buffer_samples", problem
        unlimited = msgspec.structs.replace(replay, samples_per_insert=None, error_buffer_samples=None)
        for field, sentence in unlimited.problems():
            yield f"config.replay.{field}", sentence
        chunk = config.envs * config.chunk_steps
        if replay.capacity < chunk:
            problem = f"{replay.capacity} is less than one chunk, envs * chunk_steps = {chunk} transitions"
            yield "config.replay.capacity", problem

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        yield from coordinator_problems(spec, specs)
        for name in idle_tasks(spec, specs, "coordinator"):
            yield "ports.coordinator", f'no worker has the task "{name}", and it would never be learned'

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        return replay_memory(cast(Worker.Config, spec.config).replay, [spec])

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        for field, sentence in config.replay.state_problems(state["replay"]):
            yield f"config.replay.{field}", sentence

    async def on_start(self) -> None:
        await self.load_torch()

        from actorq.replay.buffer import make_replay

        config = self.config
        self._method = ParameterServerClient(self, self.servers, self.coordinator)
        rollout = LocalRollout(self, config, config.device)
        # In a thread: the first prioritized index on a machine compiles its kernels.
        replay = await self.in_thread(partial(make_replay, config.replay, seed=self.seed))
        self._experience = Experience(self, rollout, replay, self._method)

    def _open_source(self) -> BatchSource:
        return self._experience

    async def _finish(self, source: BatchSource, computed: ComputedUpdate) -> None:
        await self._method.push(computed.loss)

    async def on_stop(self) -> None:
        self._experience.close()

    def state(self) -> State:
        return {**self._experience.state(), **self._method.state()}

    def load_state(self, state: State) -> None:
        self._experience.load_state(state)
        self._method.load_state(state)


class Experience:
    """A worker's environments and its replay: explores whenever a batch needs more transitions."""

    def __init__(
        self, worker: Worker, rollout: LocalRollout, replay: Any, client: ParameterServerClient
    ) -> None:
        self._worker, self._rollout, self._replay, self._client = worker, rollout, replay, client
        self._config: LocalReplayConfig = worker.config.replay
        self._batch_size = worker.agent.batch_size
        self._inserted = self._batches = 0
        self._credit = 0.0
        """Batches of `agent.batch_size` that the inserted transitions allow."""
        self._acts_with: Version | None = None
        self._filled = False
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        """Ids of the last batch that `next` returned."""

    async def next(self) -> Sequence[Sequence[Batch | None]]:
        """The next batch, as soon as `samples_per_insert` allows it.

        The first draw is empty: the replay holds `min_size` transitions, and newer parameters can be read.
        """
        if not self._filled:
            while self._inserted < self._config.min_size:
                await self._explore()
            self._filled = True
            return []
        while self._credit < (price := self._client.rows / self._batch_size):
            await self._explore()
        self._credit -= price
        batch = self._replay.sample(self._client.rows, self._config.beta(self._batches))
        self._batches += 1
        return self.draw_of(batch)

    def draw_of(self, batch: Batch) -> Sequence[Sequence[Batch | None]]:
        """A draw for one update, with empty batches of the other tasks."""
        self._ids = batch.ids
        own, tasks = self._rollout.choice.task, len(self._worker.all_tasks)
        return [[batch if task == own else None for task in range(tasks)]]

    async def update(self, priorities: Mapping[int, NDArray[np.float32]]) -> None:
        if self._config.sampling == "prioritized":
            self._replay.update(self._ids, priorities[0])

    async def _explore(self) -> None:
        """Insert one chunk into the replay."""
        worker = self._worker
        if self._acts_with != self._client.version:
            self._rollout.act_with(self._client.online.vector.numpy(force=True))
            self._acts_with = self._client.version
        chunk = self._rollout.explore()
        self._replay.add(chunk)
        if self._inserted >= self._config.min_size:
            self._credit += self._allowed_by(len(chunk))
        self._inserted += len(chunk)
        worker.report("replay_size", len(self._replay))
        if not self._client.in_trouble:
            self._rollout.count()
        await worker.sleep(0)  # other tasks wait for the loop

    def _allowed_by(self, inserted: int) -> float:
        """Batches that this many new transitions allow."""
        samples_per_insert = self._config.samples_per_insert
        if samples_per_insert is None:
            return 1.0
        return inserted * samples_per_insert / self._batch_size

    def close(self) -> None:
        self._rollout.close()

    def state(self) -> State:
        return {
            "exploration": self._rollout.state(),
            "replay": self._replay.state(),
            "inserted": self._inserted,
            "batches": self._batches,
            "credit": self._credit,
        }

    def load_state(self, state: State) -> None:
        self._rollout.load_state(state["exploration"])
        self._replay.load_state(state["replay"])
        self._inserted, self._batches = state["inserted"], state["batches"]
        self._credit = state["credit"]
