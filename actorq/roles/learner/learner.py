"""The learner: draws batches, updates the parameters, returns priorities, publishes weights."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorSpec, Group, Ref, State, Topic, handles
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.roles.averaging.client import AveragingClient, MeetEveryUpdates
from actorq.roles.averaging.messages import JoinAveraging, Synchronize
from actorq.roles.common.adaptive_executor import (
    AdaptiveExecutor,
    TorchThreads,
    refuse_divergence,
    set_torch_threads,
)
from actorq.roles.common.death_watch import Presence
from actorq.roles.common.learning_actor import LearningActor, adaptive_tasks
from actorq.roles.common.problems import compile_problems, device_problems
from actorq.roles.common.task_wiring import shard_problems
from actorq.roles.parameter_server.messages import Attend, Left
from actorq.roles.replay.dataset import BatchesPerAsk, DatasetDraw, DrawsAhead, ReplayDataset
from actorq.roles.replay.messages import Sample, UpdatePriorities, Version, Weights

from .task_migration import TaskMigration, joining_problems

if TYPE_CHECKING:
    from actorq.learning.staging import StagedBatch, TransitionBatch


class Update(NamedTuple):
    """What came of one update."""

    td_errors: NDArray[np.float32]
    """[B] of the batch."""
    loss: float
    gradient_norm: float | None
    """Before clipping; None where nothing is clipped."""


class Learner(LearningActor):
    """One learner with its own parameters, target network and optimizer.

    It updates as fast as the replay gives batches; how often experience is reused is the replay's
    `samples_per_insert`. With a `root` it is one of several, whose parameters meet there every so many
    updates: see `AveragingServer`. Between two meetings each goes its own way.
    """

    class Config(actors.Config):
        batches_per_ask: BatchesPerAsk = 4
        draws_ahead: DrawsAhead = 2
        publish_every_updates: Annotated[int, Meta(ge=1, description="updates between two weights")] = 16
        meet_every_updates: MeetEveryUpdates = 50
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        compile: Compile = "off"
        torch_threads: TorchThreads = None

    replay: Group[Sample | UpdatePriorities]
    root: Ref[JoinAveraging | Synchronize] | None
    weights: Topic[Weights]

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        return shard_problems(spec, specs)

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from device_problems(config.device)
        yield from compile_problems(config.compile)

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        yield from joining_problems(tables, state)
        saved, mine = state["optimizer"]["optimizer"], tables["agent"].optimizer
        if mine != saved:
            yield "agent.optimizer", f"is {mine}, but the run has learned with {saved}"

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        from actorq.envs.make import describe
        from actorq.learning.device import resolve_device
        from actorq.learning.networks.factory import make_task_parameters
        from actorq.learning.optimizers import make_optimizer
        from actorq.learning.popart import PopArt
        from actorq.learning.target import TargetNetwork
        from actorq.learning.update import LearningRule

        spaces, agent = [describe(task) for task in self.all_tasks], self.agent
        device = resolve_device(self.config.device, self.name)
        self._online = make_task_parameters(agent, spaces, self.seed, device)
        set_torch_threads(self.config.torch_threads, self._online.size)
        self._target = TargetNetwork(agent, self._online)
        self._optimizer = make_optimizer(agent, self._online.vector, self._online.gradient)
        both = self._online, self._target.parameters
        self._popart = PopArt(agent, spaces, adaptive_tasks(self.all_tasks), *both)
        self._rule = LearningRule(agent, *both, self.config.compile, self._popart)
        self._joining = TaskMigration(agent, self.all_tasks, spaces)
        self._updates = 0
        self._computing = AdaptiveExecutor(self)
        self._averaging = AveragingClient(self, self.root, self.config.meet_every_updates)
        self._presence = Presence(self)
        self._stepping = threading.Lock()  # a long update is made in a thread, and a state may be asked for

    @property
    def version(self) -> Version:
        return Version(self.restarts, self._updates)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()

    async def run(self) -> None:
        await self._join(learning=False)
        await self._publish()
        size = self.agent.batch_size
        feed = ReplayDataset(
            self, self.replay, self.all_tasks, self.config, size, lambda: self.version, self._online
        )
        draw = await feed.next()
        await self._join(learning=True)
        while True:
            await self._learn(feed, draw)
            self.report("waiting_share", feed.take_waiting_share())
            for task, scale in self._popart.scales().items():
                self.report(f"target_scale/{task}", scale)
            draw = await feed.next()

    async def _join(self, *, learning: bool) -> None:
        """Take over the root's parameters, if there is a root: this life has just begun."""
        joined = await self._averaging.join(learning=learning)
        if joined is not None:
            self._popart.write(self._online, joined)
            self._target.copy()

    async def _learn(self, feed: ReplayDataset, draw: DatasetDraw) -> None:
        """All updates of a draw; with the last one their new priorities go back."""
        td_errors = {}
        for number, batches in enumerate(draw.updates):
            update = await self._computing(self._update, batches)
            td_errors[number] = update.td_errors
            if number == len(draw.updates) - 1:
                await feed.update(draw, td_errors)
            self.report("loss", update.loss)
            if update.gradient_norm is not None:
                self.report("gradient_norm", update.gradient_norm)
            self.progress("updates")
            if self._averaging.note_update():
                await self._meet()
            if self._updates % self.config.publish_every_updates == 0:
                await self._publish()
            await self.sleep(0)  # others wait for the loop

    async def _meet(self) -> None:
        met = await self._averaging.meet(self._popart.read(self._online))
        self._popart.write(self._online, met)
        if self.agent.copies_target(self._updates):
            self._target.copy()  # what this update has led to, as far as the target is concerned, too

    def _update(self, batches: Sequence[TransitionBatch | StagedBatch]) -> Update:
        """One optimizer step. Raises FloatingPointError, with nothing changed, if learning has diverged."""
        from actorq.learning.optimizers import clip_gradient_norm

        learned = self._rule(*batches)
        norm = None
        if self.agent.max_gradient_norm is not None:
            norm = clip_gradient_norm(self._online.gradient, self.agent.max_gradient_norm)
        refuse_divergence(self._updates, learned.loss, norm or 0.0)
        with self._stepping:
            self._optimizer.step()
            self._updates += 1
            self._target.follow(self._updates)
            self._popart.move()
        return Update(learned.td_errors, learned.loss, norm)

    async def _publish(self) -> None:
        await self.weights.publish(Weights(self.version, self._popart.read(self._online)))

    def state(self) -> State:
        with self._stepping:
            return {
                "parameters": self._popart.read(self._online),
                "target": self._popart.read(self._target.parameters),
                "popart": self._popart.state(),
                "tasks": self._joining.state(),
                "optimizer": self._optimizer.state(),
                "updates": self._updates,
            }

    def load_state(self, state: State) -> None:
        saved, popart, joining = state["tasks"], self._popart, self._joining
        popart.load_state(state["popart"])
        for parameters, name in ((self._online, "parameters"), (self._target.parameters, "target")):
            popart.write(parameters, joining.adopt(popart.read(parameters), state[name], saved))
        size, fresh = state["parameters"].size, self._optimizer.state()
        self._optimizer.load_state(joining.adopt_moments(fresh, state["optimizer"], size, saved))
        self._updates = state["updates"]
