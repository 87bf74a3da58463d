"""The gradient learner: one of several that draw from one replay and push to one parameter server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, cast

from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorSpec, Group, Ref, State, handles
from actorq.envs.task import batch_rows, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.learning.distributed.batch_sizing import most_rows
from actorq.roles.common.adaptive_executor import TorchThreads
from actorq.roles.common.death_watch import Presence
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import compile_problems, device_problems
from actorq.roles.common.task_wiring import shard_problems
from actorq.roles.replay.dataset import BatchesPerAsk, DatasetDraw, DrawsAhead, ReplayDataset
from actorq.roles.replay.messages import Sample, UpdatePriorities, Version

from .client import (
    GradientCodec,
    OutlierDeviations,
    ParameterServerClient,
    ReadEveryGradients,
    TopKShare,
    front_problems,
)
from .messages import Attend, Fetch, Gradient, Left, Pull, Push


class GradientLearner(LearningActor):
    """Computes gradients on batches of a common replay, for a parameter server.

    A learner of Gorila's (Nair et al. 2015) before the replay of Ape-X (Horgan et al. 2018). Its parameters
    are the server's: it pushes each gradient, and goes on with the version that the answer names; see
    `ParameterServerClient`. The batch's new priorities go back before that. What several of them do together
    is the
    front's `rule`: one update of a gradient of each, or one of each gradient. When one dies, the others go on
    without it.
    """

    adapts_scale = False

    class Config(actors.Config):
        batches_per_ask: BatchesPerAsk = 4
        draws_ahead: DrawsAhead = 2
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        compile: Compile = "off"
        torch_threads: TorchThreads = None
        gradient_codec: GradientCodec = "whole"
        top_k_share: TopKShare = 0.01
        read_every_gradients: ReadEveryGradients = 1
        outlier_deviations: OutlierDeviations = None

    replay: Group[Sample | UpdatePriorities]
    servers: Group[Gradient | Fetch]
    front: Ref[Pull | Push]

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        yield from shard_problems(spec, specs)
        yield from front_problems(spec, specs)
        yield from draw_problems(spec, specs)

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from device_problems(config.device)
        yield from compile_problems(config.compile)

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        config = self.config
        self._pusher = ParameterServerClient(
            self, config, self.all_tasks, self.agent, self.servers, self.front
        )
        self._presence = Presence(self)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()

    async def run(self) -> None:
        await self._pusher.read(computing=False)
        feed = ReplayDataset(
            self,
            self.replay,
            self.all_tasks,
            self.config,
            self.agent.batch_size,
            lambda: self._pusher.version or Version(0, 0),
            self._pusher.online,
        )
        draw = await feed.next()
        await self._pusher.read(computing=True)  # nobody waits for its gradient as long as there is no batch
        while True:
            await self._learn(feed, draw)
            draw = await feed.next()
            self.report("waiting_share", feed.take_waiting_share())

    async def _learn(self, feed: ReplayDataset, draw: DatasetDraw) -> None:
        """One gradient for each update's batch."""
        for number, batches in enumerate(draw.updates):
            learned = await self._pusher.compute(*batches)
            if learned is None:
                continue
            await feed.update(draw, {number: learned.td_errors})
            await self._pusher.push(learned.loss)
            feed.batch_size = self._pusher.rows  # for draws to come: those that are ready were dealt earlier
            if not self._pusher.in_trouble:
                self.progress("batches")

    def state(self) -> State:
        return self._pusher.state()

    def load_state(self, state: State) -> None:
        self._pusher.load_state(state)


def draw_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[tuple[str, str]]:
    """Whether the largest draw fits `error_buffer_samples`; where that is not set the bound widens to it."""
    tasks, shards, (front,) = tasks_in(spec.tables), spec.ports["replay"], spec.ports["front"]
    agent, batches = spec.tables.get("agent"), cast(GradientLearner.Config, spec.config).batches_per_ask
    if not isinstance(agent, Agent) or not 0 < len(tasks) <= agent.batch_size or len(shards) % len(tasks):
        return  # others say so
    rows, why = agent.batch_size, ""
    if getattr(specs[front].config, "deal", "equal") == "speed":
        rows = most_rows(rows, len(tasks), len(specs[front].ports.get("workers", ())))
        why = f"{front} may deal {rows} rows to one learner: "
    block = len(shards) // len(tasks)
    for shard, part in zip(shards[::block], batch_rows(tasks, rows), strict=True):
        keeper = specs[shard].ports.get("limiter", (shard,))[0]  # a task's first shard admits its whole draw
        buffer = getattr(specs[keeper].config, "error_buffer_samples", None)
        samples = part * batches
        if buffer is not None and samples > buffer:
            yield (
                "config.batches_per_ask",
                f"{why}a draw takes up to {part} · {batches} = {samples} samples, more than"
                f" error_buffer_samples = {buffer:g} of {keeper}: make that {samples}, or draw fewer batches",
            )
            return
