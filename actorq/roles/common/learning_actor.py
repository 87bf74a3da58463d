"""Base class of the roles that learn or act: the task or tasks, and their network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import actorq.actors as actors
from actorq.actors import ActorSpec, SettingProblem, Table
from actorq.envs.task import Task, Tasks, task_names, tasks_in
from actorq.learning.agent import Agent

from .problems import compile_problems, device_problems, environment_problems, spaces_in
from .wiring import weights_problems

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from actorq.envs.spaces import Spaces


class LearningActor(actors.Actor):
    """Base class of roles that read `[agent]` and either `[task]` or `[[tasks]]`."""

    adapts_scale: ClassVar[bool] = True
    """False for roles that do not support `reward_scale = "adaptive"` (PopArt)."""

    task: Table[Task | None] = None
    tasks: Table[Tasks | None] = None
    agent: Table[Agent]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from environment_problems(tables)
        if not cls.adapts_scale:
            yield from _scale_problems(tables, "takes a lone learner, that has the whole network to itself")
            return
        agent = tables.get("agent")
        if not isinstance(agent, Agent) or any(agent.problems()):
            return
        if agent.custom:
            yield from _scale_problems(
                tables, f"takes a declared network: of {agent.network} the head isn't known"
            )
        elif not agent.make_algorithm().outputs_are_returns:
            yield from _scale_problems(
                tables, f"takes outputs in units of return, which those of {agent.algorithm} are not"
            )

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        return weights_problems(spec)

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from device_problems(getattr(config, "device", "cpu"))
        yield from compile_problems(getattr(config, "compile", "off"))

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """All tasks that are learned: the one of `[task]`, or `[[tasks]]` in their order."""
        return tasks_in({"task": self.task, "tasks": self.tasks})

    def describe_tasks(self) -> list[Spaces]:
        """The spaces of each task's environment, which is made for it."""
        return spaces_in({"task": self.task, "tasks": self.tasks})

    def initial_parameters(self) -> NDArray[Any]:
        """The initial parameters as a flat vector, drawn from the seed: the same in every incarnation. Needs
        torch.
        """
        from actorq.learning.networks.factory import make_task_parameters

        return make_task_parameters(self.agent, self.describe_tasks(), self.seed).read()

    async def load_torch(self) -> None:
        """Import torch, which takes seconds, in a thread."""
        await self.in_thread(import_module, "torch")


def adaptive_tasks(tasks: Sequence[Task]) -> dict[int, str]:
    """Number and name of the tasks with `reward_scale = "adaptive"`."""
    names = enumerate(task_names(tasks))
    return {number: name for number, name in names if tasks[number].reward_scale == "adaptive"}


def _scale_problems(tables: Mapping[str, Any], why: str) -> Iterator[SettingProblem]:
    tasks = tasks_in(tables)
    for number in adaptive_tasks(tasks):
        where = "task" if tables.get("tasks") is None else f"tasks[{number}]"
        yield f"{where}.reward_scale", f'"adaptive" {why}; else give a number'
