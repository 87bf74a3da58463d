"""The learner: draws batches, updates the parameters, returns priorities, publishes weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Group, State, Table, Topic
from actorq.dqn.agent import Agent
from actorq.dqn.device import Device
from actorq.envs.task import Task
from actorq.replay.experience import Batch

from .computing import Computing, TorchThreads, set_torch_threads
from .faults import device_faults, environment_faults, network_faults
from .feeding import Feeding
from .messages import Sample, UpdatePriorities, Version, Weights
from .replay_reader import ReplayReader

if TYPE_CHECKING:
    from actorq.dqn.staging import AheadStaging, StagedBatch


class Update(NamedTuple):
    """What came of one update."""

    priorities: NDArray[np.float32]
    """[B] the new |TD error| of the batch."""
    loss: float
    gradient_norm: float | None
    """Before clipping; None where nothing is clipped."""


class Learner(actors.Actor):
    """One learner with its own parameters, target network and optimizer.

    It updates as fast as the replay gives batches; how often experience is reused is the replay's
    `samples_per_insert`.
    """

    class Config(actors.Config):
        batches_per_ask: Annotated[
            int, Meta(ge=1, description="batches drawn with one message; their priorities go back together")
        ] = 4
        draws_ahead: Annotated[
            int,
            Meta(ge=1, description="draws of so many batches that are ready or under way while it computes"),
        ] = 2
        publish_every_updates: Annotated[int, Meta(ge=1, description="updates between two weights")] = 16
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        torch_threads: TorchThreads = None

    task: Table[Task]
    agent: Table[Agent]
    replay: Group[Sample | UpdatePriorities]
    weights: Topic[Weights]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return environment_faults(tables)

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_faults(config.device)

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        yield from network_faults(tables, state["parameters"])
        saved, mine = state["optimizer"]["optimizer"], tables["agent"].optimizer
        if mine != saved:
            yield "agent.optimizer", f"is {mine}, but the run has learned with {saved}"

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        from actorq.dqn.device import resolve_device
        from actorq.dqn.making import make_parameters
        from actorq.dqn.optimizers import make_optimizer
        from actorq.dqn.rule import LearningRule
        from actorq.dqn.staging import AheadStaging
        from actorq.dqn.target import TargetNetwork
        from actorq.envs.make import describe

        spaces, agent = describe(self.task), self.agent
        device = resolve_device(self.config.device)
        self._online = make_parameters(
            agent, spaces.observation_shape, spaces.dtype, spaces.actions, self.seed, device
        )
        set_torch_threads(self.config.torch_threads, self._online.size)
        self._target = TargetNetwork(agent, self._online)
        self._optimizer = make_optimizer(agent, self._online.vector, self._online.gradient)
        self._rule = LearningRule(agent, self._online, self._target.parameters)
        self._updates = 0
        self._computing = Computing(self)
        self._reader = ReplayReader(self.replay, self.seed, self)
        self._stage_ahead: AheadStaging | None = None
        if device.type == "cuda":  # what is learned from, what is ready, and what is being made ready
            batches = self.config.batches_per_ask * (self.config.draws_ahead + 2)
            self._stage_ahead = AheadStaging(self._online.dtype, device, batches)
        self._stepping = threading.Lock()  # a long update is made in a thread, and a state may be asked for

    @property
    def version(self) -> Version:
        return Version(self.restarts, self._updates)

    async def run(self) -> None:
        await self._publish()
        feeding = Feeding(self, self._draw, self.config.draws_ahead)
        while True:
            await self._learn(*await feeding.next())
            self.report("waiting_share", feeding.take_waiting_share())

    async def _draw(self) -> tuple[Batch, Sequence[Batch | StagedBatch]]:
        """Batches in one, and one by one; those for a GPU are on their way there."""
        parts = self.config.batches_per_ask
        drawn = await self._reader.draw(self.agent.batch_size, parts, self.version)
        if self._stage_ahead is None:
            return drawn, drawn.split(parts)
        return drawn, await self.in_thread(self._stage_ahead, drawn.split(parts))

    async def _learn(self, drawn: Batch, batches: Sequence[Batch | StagedBatch]) -> None:
        """One update for each batch of `drawn`; with the last one their new priorities go back."""
        priorities = np.empty(len(drawn), np.float32)
        for part, batch in enumerate(batches):
            update = await self._computing(self._update, batch)
            priorities[part :: len(batches)] = update.priorities
            if part == len(batches) - 1:
                await self._reader.update(drawn.ids, priorities)
            self.report("loss", update.loss)
            if update.gradient_norm is not None:
                self.report("gradient_norm", update.gradient_norm)
            self.progress("updates")
            if self._updates % self.config.publish_every_updates == 0:
                await self._publish()
            await self.sleep(0)  # others wait for the loop

    def _update(self, batch: Batch | StagedBatch) -> Update:
        """One optimizer step. Raises FloatingPointError, with nothing changed, if learning has diverged."""
        from actorq.dqn.optimizers import clip_gradient_norm

        learned = self._rule(batch)
        norm = None
        if self.agent.max_gradient_norm is not None:
            norm = clip_gradient_norm(self._online.gradient, self.agent.max_gradient_norm)
        if not (math.isfinite(learned.loss) and math.isfinite(norm or 0.0)):
            raise FloatingPointError(
                f"learning has diverged: after {self._updates} updates the loss is {learned.loss}; a lower"
                " agent.learning_rate, a lower agent.max_gradient_norm or task.reward_clip may help"
            )
        with self._stepping:
            self._optimizer.step()
            self._updates += 1
            self._target.follow(self._updates)
        return Update(np.abs(learned.td_errors), learned.loss, norm)

    async def _publish(self) -> None:
        await self.weights.publish(Weights(self.version, self._online.read()))

    def state(self) -> State:
        with self._stepping:
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
