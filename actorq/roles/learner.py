"""The learner: draws batches, updates the parameters, returns priorities, publishes weights."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

import actorq.actors as actors
from actorq.actors import Ref, State, Table, Topic
from actorq.dqn.agent import Agent
from actorq.dqn.device import Device
from actorq.envs.task import Task
from actorq.replay.experience import Batch

from .faults import environment_faults
from .messages import Sample, UpdatePriorities, Version, Weights

LONG_UPDATE_SECONDS = 0.005
"""From here on an update goes to a thread; below, the hop would cost more than it frees."""


class Learner(actors.Actor):
    """One learner with its own parameters, target network and optimizer.

    It updates as fast as the replay gives batches; how often experience is reused is the replay's
    `samples_per_insert`.
    """

    class Config(actors.Config):
        publish_every_updates: Annotated[int, Meta(ge=1, description="updates between two weights")] = 16
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        torch_threads: Annotated[
            Annotated[int, Meta(ge=1)] | None,
            Meta(
                description="threads torch computes with, in the whole process; absent: 1 for networks below "
                "a million parameters, or else one per core"
            ),
        ] = None

    task: Table[Task]
    agent: Table[Agent]
    replay: Ref[Sample | UpdatePriorities]
    weights: Topic[Weights]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return environment_faults(tables)

    async def on_start(self) -> None:
        import torch

        from actorq.dqn.device import resolve_device
        from actorq.dqn.making import make_parameters
        from actorq.dqn.optimizers import make_optimizer
        from actorq.dqn.rule import LearningRule
        from actorq.dqn.target import TargetNetwork
        from actorq.envs.make import describe

        torch.set_flush_denormal(True)  # Adam's moments of dead units become denormal, which is slow
        spaces, agent = describe(self.task), self.agent
        device = resolve_device(self.config.device)
        self._online = make_parameters(
            agent, spaces.observation_shape, spaces.dtype, spaces.actions, self.seed, device
        )
        torch.set_num_threads(self.config.torch_threads or self._suitable_threads())
        self._target = TargetNetwork(agent, self._online)
        self._optimizer = make_optimizer(agent, self._online.vector, self._online.gradient)
        self._rule = LearningRule(agent, self._online, self._target.parameters)
        self._updates = 0
        self._update_seconds = 0.0

    def _suitable_threads(self) -> int:
        """Sharing out small products costs more than it saves."""
        return 1 if self._online.size < 1_000_000 else len(os.sched_getaffinity(0))

    @property
    def version(self) -> Version:
        return Version(self.restarts, self._updates)

    async def run(self) -> None:
        await self._publish()
        size, every = self.agent.batch_size, self.config.publish_every_updates
        while True:
            sampled = await self.replay.ask(Sample(size, self.version))
            if self._update_seconds > LONG_UPDATE_SECONDS:
                priorities = await self.in_thread(self._update, sampled.batch)
            else:
                priorities = self._update(sampled.batch)
            await self.replay.tell(UpdatePriorities(sampled.batch.ids, priorities))
            self.progress("updates")
            if self._updates % every == 0:
                await self._publish()

    def _update(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.float32]]:
        """One optimizer step; returns the new priorities, [B]."""
        from actorq.dqn.optimizers import clip_gradient_norm

        began = time.perf_counter()
        learned = self._rule(batch)
        if self.agent.max_gradient_norm is not None:
            norm = clip_gradient_norm(self._online.gradient, self.agent.max_gradient_norm)
            self.report("gradient_norm", norm)
        self._optimizer.step()
        self._updates += 1
        self._target.follow(self._updates)
        self.report("loss", learned.loss)
        self._update_seconds += 0.1 * (time.perf_counter() - began - self._update_seconds)
        return np.abs(learned.td_errors)

    async def _publish(self) -> None:
        await self.weights.publish(Weights(self.version, self._online.read()))

    def state(self) -> State:
        return {
            "parameters": self._online.read(),
            "target": self._target.state(),
            "optimizer": self._optimizer.state(),
            "updates": self._updates,
        }

    def load_state(self, state: State) -> None:
        self._online.write(state["parameters"])
        self._target.load_state(state["target"])
        self._optimizer.load_state(state["optimizer"])
        self._updates = state["updates"]
