"""Several tasks: which of them an explorer explores, which part of the shared network acts there, and whether
a checkpoint has the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from actorq.actors import ActorSpec, SettingProblem
from actorq.envs.task import Task, task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.networks.task_layout import TaskLayout, TaskSpaces

TakePart = Callable[[NDArray[Any], int], NDArray[Any]]
"""From the flat vector that all tasks share to the parameters of one task's network."""


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """What one explorer explores."""

    task: int
    """Which of the tasks."""
    index: int
    """The explorer's place among those who explore it, from 0."""
    count: int
    """How many they are."""


def choose_task(
    named: str | None, tasks: Sequence[Task], index: int, count: int, instances: int = 1
) -> TaskAssignment:
    """The named task, for all `count` members alike; or else the members take the tasks in turn.

    Of a repeated group the members of each instance do, and so explore the same tasks.
    """
    if named is not None:
        return TaskAssignment(task_names(tasks).index(named), index, count)
    turns, each = len(tasks), count // instances
    instance, place = divmod(index, each)
    task = place % turns
    alike = -(-(each - task) // turns)
    return TaskAssignment(task, instance * alike + place // turns, instances * alike)


def choice_problems(named: str | None, tables: Mapping[str, Any]) -> Iterator[SettingProblem]:
    """Whether there is a task of that name."""
    if named is None or "tasks" not in tables:  # left out: what is wrong with them has been told
        return
    if tables["tasks"] is None:
        yield "config.task", "there are no [[tasks]] to choose from: leave it out"
    elif named not in (names := task_names(tasks_in(tables))):
        yield "config.task", f'"{named}" is none of the tasks: {", ".join(names)}'


def idle_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[SettingProblem]:
    """Whether somebody explores each of the tasks whose shards this explorer is wired to."""
    for name in idle_tasks(spec, specs, "replay"):
        yield "ports.replay", f'nobody explores the task "{name}" there, and learners would wait for it'


def idle_tasks(spec: ActorSpec, specs: Mapping[str, ActorSpec], port: str) -> Iterator[str]:
    """The tasks that nobody explores of those like this one whose port is wired alike."""
    tasks = tasks_in(spec.tables)
    explored = {
        choose_task(
            getattr(other.config, "task", None), tasks, other.index, other.count, other.instances
        ).task
        for other in specs.values()
        if other.ports.get(port) == spec.ports[port] and isinstance(other.config, type(spec.config))
    }
    return (name for task, name in enumerate(task_names(tasks)) if task not in explored)


def take_part(agent: Agent, spaces: Sequence[TaskSpaces]) -> TakePart:
    """How to take it, by the spaces of all tasks; of one task it is the vector itself."""
    return TaskLayout(agent, spaces).part if len(spaces) > 1 else lambda vector, _: vector


def same_tasks(now: Sequence[str], then: Sequence[str]) -> bool:
    """Whether nothing joins or leaves. A lone task may be another environment of the same spaces."""
    return list(now) == list(then) or len(now) == len(then) == 1
