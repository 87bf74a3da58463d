"""Task assignment: the task of each explorer, its part of the shared network, and the match with a
checkpoint's tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from actorq.actors import ActorSpec, SettingProblem
from actorq.envs.task import Task, task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.networks.spec import TaskSpaces
from actorq.learning.networks.task_layout import TaskLayout

TakePart = Callable[[NDArray[Any], int], NDArray[Any]]
"""Maps the flat vector that all tasks share to the parameters of one task's network."""


@dataclass(frozen=True, slots=True)
class TaskAssignment:
    """The task of one explorer."""

    task: int
    """Index of the task."""
    index: int
    """The explorer's position among those of the same task, from 0."""
    count: int
    """Number of explorers of the task."""


def choose_task(
    named: str | None, tasks: Sequence[Task], index: int, count: int, instances: int = 1
) -> TaskAssignment:
    """The named task, for all `count` members alike; without a name the members take the tasks in turn.

    In a repeated group this holds within each instance, so that all instances explore the same tasks.
    """
    if named is not None:
        return TaskAssignment(task_names(tasks).index(named), index, count)
    turns, each = len(tasks), count // instances
    instance, place = divmod(index, each)
    task = place % turns
    alike = -(-(each - task) // turns)
    return TaskAssignment(task, instance * alike + place // turns, instances * alike)


def choice_problems(named: str | None, tables: Mapping[str, Any]) -> Iterator[SettingProblem]:
    """Problem if there is no task of that name."""
    if named is None or "tasks" not in tables:  # missing if their problems have been reported
        return
    if tables["tasks"] is None:
        yield "config.task", "there are no [[tasks]] to choose from: leave it out"
    elif named not in (names := task_names(tasks_in(tables))):
        yield "config.task", f'"{named}" is not one of the tasks: {", ".join(names)}'


def idle_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[SettingProblem]:
    """Problem for each task with shards that this explorer is wired to but without explorers."""
    for name in idle_tasks(spec, specs, "replay"):
        yield "ports.replay", f'no explorer has the task "{name}" there, and learners would wait for it'


def idle_tasks(spec: ActorSpec, specs: Mapping[str, ActorSpec], port: str) -> Iterator[str]:
    """The tasks without explorers among those whose actors are wired like this one."""
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
    """The mapping to one task's parameters, by the spaces of all tasks; for one task it is the vector
    itself.
    """
    return TaskLayout(agent, spaces).part if len(spaces) > 1 else lambda vector, _: vector


def same_tasks(now: Sequence[str], then: Sequence[str]) -> bool:
    """Whether both have the same tasks. A single task may be another environment with the same spaces."""
    return list(now) == list(then) or len(now) == len(then) == 1
