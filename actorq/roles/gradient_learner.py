"""The gradient learner: one of several that draw from one replay and push to one parameter server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorSpec, Group, Ref, State, Table, handles
from actorq.dqn.agent import Agent
from actorq.dqn.device import Device
from actorq.envs.task import Task
from actorq.replay.experience import Batch

from .computing import TorchThreads
from .faults import device_faults, environment_faults
from .feeding import Feeding
from .gradient_pusher import (
    GradientCodec,
    GradientPusher,
    OutlierDeviations,
    ReadEveryGradients,
    TopKShare,
)
from .lives import Presence
from .messages import Sample, UpdatePriorities, Version
from .replay_reader import ReplayReader
from .server_messages import Attend, Fetch, Gradient, Left, Pull, Push

if TYPE_CHECKING:
    from actorq.dqn.staging import AheadStaging, StagedBatch


class GradientLearner(actors.Actor):
    """Computes the gradient of the DQN loss on batches of a common replay (a learner of Gorila's, Nair et al.
    2015, before the replay of Ape-X, Horgan et al. 2018).

    Its parameters are the server's: it pushes each gradient, and goes on with the version that the answer
    names; see `GradientPusher`. The batch's new priorities go back before that. What several of them do
    together is the front's `rule`: one update of a gradient of each, or one of each gradient. When one dies,
    the others go on without it.
    """

    class Config(actors.Config):
        batches_per_ask: Annotated[int, Meta(ge=1, description="batches drawn with one message")] = 4
        draws_ahead: Annotated[
            int,
            Meta(ge=1, description="draws of so many batches that are ready or under way while it computes"),
        ] = 2
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        torch_threads: TorchThreads = None
        gradient_codec: GradientCodec = "whole"
        top_k_share: TopKShare = 0.01
        read_every_gradients: ReadEveryGradients = 1
        outlier_deviations: OutlierDeviations = None

    task: Table[Task]
    agent: Table[Agent]
    replay: Group[Sample | UpdatePriorities]
    servers: Group[Gradient | Fetch]
    front: Ref[Pull | Push]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return environment_faults(tables)

    @classmethod
    def wiring_faults(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        (front,) = spec.ports["front"]
        workers = specs[front].ports.get("workers", ())
        if workers[:1] != (spec.name,) or len(workers) != spec.count:
            yield (
                "ports.front",
                f"{front} knows who pushes by their index: wire its port workers to this actor alone",
            )

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_faults(config.device)

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        from actorq.dqn.staging import AheadStaging

        config = self.config
        self._pusher = GradientPusher(self, config, self.task, self.agent, self.servers, self.front)
        self._reader = ReplayReader(self.replay, self.seed, self)
        self._stage_ahead: AheadStaging | None = None
        online = self._pusher.online
        if online.device.type == "cuda":  # what is learned from, what is ready, and what is being made ready
            batches = config.batches_per_ask * (config.draws_ahead + 2)
            self._stage_ahead = AheadStaging(online.dtype, online.device, batches)
        self._presence = Presence(self)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()

    async def run(self) -> None:
        await self._pusher.read(computing=False)
        feeding = Feeding(self, self._draw, self.config.draws_ahead)
        drawn = await feeding.next()
        await self._pusher.read(computing=True)  # nobody waits for its gradient as long as there is no batch
        while True:
            await self._learn(*drawn)
            drawn = await feeding.next()
            self.report("waiting_share", feeding.take_waiting_share())

    async def _draw(self) -> tuple[Batch, Sequence[Batch | StagedBatch]]:
        """Batches in one, and one by one; those for a GPU are on their way there."""
        parts = self.config.batches_per_ask
        drawn = await self._reader.draw(self.agent.batch_size, parts, self._pusher.version or Version(0, 0))
        if self._stage_ahead is None:
            return drawn, drawn.split(parts)
        return drawn, await self.in_thread(self._stage_ahead, drawn.split(parts))

    async def _learn(self, drawn: Batch, batches: Sequence[Batch | StagedBatch]) -> None:
        """One gradient for each batch of `drawn`."""
        for part, batch in enumerate(batches):
            learned = await self._pusher.compute(batch)
            if learned is None:
                continue
            await self._reader.update(drawn.ids[part :: len(batches)], np.abs(learned.td_errors))
            await self._pusher.push(learned.loss)
            if not self._pusher.in_trouble:
                self.progress("batches")

    def state(self) -> State:
        return self._pusher.state()

    def load_state(self, state: State) -> None:
        self._pusher.load_state(state)
