"""What the roles that learn or act have in common: the task or tasks, and the network that is to do them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import actorq.actors as actors
from actorq.actors import SettingProblem, Table
from actorq.envs.task import Task, Tasks, task_names, tasks_in
from actorq.learning.agent import Agent

from .problems import environment_problems


class LearningActor(actors.Actor):
    """Reads `[agent]` and either `[task]` or `[[tasks]]`."""

    adapts_scale: ClassVar[bool] = True
    """Whether `reward_scale = "adaptive"` is nothing that it would have to do and can't."""

    task: Table[Task | None] = None
    tasks: Table[Tasks | None] = None
    agent: Table[Agent]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from environment_problems(tables)
        if not cls.adapts_scale:
            yield from _scale_problems(tables, "takes a lone learner, that has the whole network to itself")
        elif isinstance(agent := tables.get("agent"), Agent) and agent.custom:
            yield from _scale_problems(
                tables, f"takes a built-in network: of {agent.network} the head isn't known"
            )

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """All that are learned: one, or `[[tasks]]` in their order."""
        return tasks_in({"task": self.task, "tasks": self.tasks})


def adaptive_tasks(tasks: Sequence[Task]) -> dict[int, str]:
    """Those with `reward_scale = "adaptive"`: number and name."""
    names = enumerate(task_names(tasks))
    return {number: name for number, name in names if tasks[number].reward_scale == "adaptive"}


def _scale_problems(tables: Mapping[str, Any], why: str) -> Iterator[SettingProblem]:
    tasks = tasks_in(tables)
    for number in adaptive_tasks(tasks):
        where = "task" if tables.get("tasks") is None else f"tasks[{number}]"
        yield f"{where}.reward_scale", f'"adaptive" {why}; else give a number'
