"""Learner with a whole network of its own: one optimizer step for each batch."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import SettingProblem, State
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.roles.averaging.client import AveragingClient
from actorq.roles.common.adaptive_executor import (
    AdaptiveExecutor,
    TorchThreads,
    refuse_divergence,
    set_torch_threads,
)
from actorq.roles.common.learning_actor import LearningActor, adaptive_tasks
from actorq.roles.common.problems import optimizer_problems
from actorq.roles.replay.messages import Version

from .base import OwningLearner
from .task_migration import TaskMigration, joining_problems

if TYPE_CHECKING:
    from actorq.learning.networks.flat import FlatParameters
    from actorq.learning.staging import StagedBatch, TransitionBatch
    from actorq.learning.update import UpdateResult


class Learner(OwningLearner):
    """One learner with its own parameters, target network and optimizer.

    It updates as fast as the replay returns batches; the replay's `samples_per_insert` determines how often a
    transition is reused.
    """

    class Config(OwningLearner.Config):
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        compile: Compile = "off"
        torch_threads: TorchThreads = None

    _method: LocalUpdate

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        yield from joining_problems(tables, state)
        yield from optimizer_problems(tables, state["optimizer"]["optimizer"])

    async def on_start(self) -> None:
        await super().on_start()
        await self.load_torch()
        self._method = LocalUpdate(self, self.config, self._averaging)

    @property
    def _staged_for(self) -> FlatParameters:
        return self._method.online

    async def _finish(self, source: Any, computed: Any) -> None:
        await super()._finish(source, computed)
        await self.sleep(0)  # other tasks wait for the loop

    def _report_draw(self, source: Any) -> None:
        super()._report_draw(source)
        for task, scale in self._method.target_scales().items():
            self.report(f"target_scale/{task}", scale)

    def state(self) -> State:
        return self._method.state()

    def load_state(self, state: State) -> None:
        self._method.load_state(state)


class LocalUpdate:
    """Parameters, target network and optimizer of one learner, and an optimizer step for each batch."""

    def __init__(self, actor: LearningActor, config: Learner.Config, averaging: AveragingClient) -> None:
        """Computes and reports as part of `actor`. Needs torch."""
        from actorq.learning.device import resolve_device
        from actorq.learning.networks.factory import make_task_parameters
        from actorq.learning.optimizers import make_optimizer
        from actorq.learning.popart import PopArt
        from actorq.learning.target import TargetNetwork
        from actorq.learning.update import LearningRule

        agent, tasks = actor.agent, actor.all_tasks
        spaces = actor.describe_tasks()
        self._actor, self._agent, self._averaging = actor, agent, averaging
        device = resolve_device(config.device, actor.name)
        self.online = make_task_parameters(agent, spaces, actor.seed, device)
        set_torch_threads(config.torch_threads, self.online.size)
        self._target = TargetNetwork(agent, self.online)
        self._optimizer = make_optimizer(agent, self.online.vector, self.online.gradient)
        both = self.online, self._target.parameters
        self._popart = PopArt(agent, spaces, adaptive_tasks(tasks), *both)
        self._rule = LearningRule(agent, *both, config.compile, self._popart)
        self._migration = TaskMigration(agent, tasks, spaces)
        self._updates = 0
        self._executor = AdaptiveExecutor(actor)
        self._stepping = threading.Lock()  # a long update runs in a thread, during which a state may be taken

    @property
    def version(self) -> Version:
        return Version(self._actor.restarts, self._updates)

    async def begin(self, *, learning: bool) -> None:
        """Load the averaging server's parameters, if there is such a server."""
        joined = await self._averaging.join(learning=learning)
        if joined is not None:
            await self.write(joined, with_target=True)

    async def compute(self, *batches: TransitionBatch | StagedBatch | None) -> UpdateResult:
        """One optimizer step. Raises FloatingPointError, with nothing changed, if learning has diverged."""
        result, norm = await self._executor(self._update, batches)
        self._actor.report("loss", result.loss)
        if norm is not None:
            self._actor.report("gradient_norm", norm)
        return result

    def _update(
        self, batches: tuple[TransitionBatch | StagedBatch | None, ...]
    ) -> tuple[UpdateResult, float | None]:
        """The result, and the gradient's norm before clipping: None without clipping."""
        from actorq.learning.optimizers import clip_gradient_norm

        result = self._rule(*batches)
        norm = None
        if self._agent.max_gradient_norm is not None:
            norm = clip_gradient_norm(self.online.gradient, self._agent.max_gradient_norm)
        refuse_divergence(self._updates, result.loss, norm or 0.0)
        with self._stepping:
            self._optimizer.step()
            self._updates += 1
            self._target.follow(self._updates)
            self._popart.move()
        return result, norm

    async def read(self) -> NDArray[Any]:
        return self._popart.read(self.online)

    async def write(self, parameters: NDArray[Any], *, with_target: bool) -> None:
        self._popart.write(self.online, parameters)
        if with_target:
            self._target.copy()

    def target_scales(self) -> dict[str, float]:
        """PopArt's present scale of returns for each task with `reward_scale = "adaptive"`."""
        return self._popart.scales()

    def state(self) -> State:
        with self._stepping:
            return {
                "parameters": self._popart.read(self.online),
                "target": self._popart.read(self._target.parameters),
                "popart": self._popart.state(),
                "tasks": self._migration.state(),
                "optimizer": self._optimizer.state(),
                "updates": self._updates,
            }

    def load_state(self, state: State) -> None:
        saved, popart, migration = state["tasks"], self._popart, self._migration
        popart.load_state(state["popart"])
        for parameters, name in ((self.online, "parameters"), (self._target.parameters, "target")):
            popart.write(parameters, migration.adopt(popart.read(parameters), state[name], saved))
        size, fresh = state["parameters"].size, self._optimizer.state()
        self._optimizer.load_state(migration.adopt_moments(fresh, state["optimizer"], size, saved))
        self._updates = state["updates"]
