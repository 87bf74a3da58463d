"""Checkpoint migration between sets of tasks: parts of tasks in both are kept, others are initialized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors import SettingProblem, State
from actorq.envs.task import Task, task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.networks.spec import TaskSpaces
from actorq.learning.networks.task_layout import TaskLayout
from actorq.roles.common.problems import network_problems, spaces_in
from actorq.roles.common.task_assignment import same_tasks


class TaskMigration:
    """Mapping between these tasks' network and the one of a saved state. Tasks are matched by name."""

    def __init__(self, agent: Agent, tasks: Sequence[Task], spaces: Sequence[TaskSpaces]) -> None:
        self._tasks, self._names = tasks, list(task_names(tasks))
        shared = not agent.custom and len(agent.hidden_widths) > 1
        self._layout = TaskLayout(agent, spaces) if shared else None

    def state(self) -> State:
        """The part of the state by which a later run with other tasks can migrate."""
        return {"names": self._names} | (self._layout.sizes() if self._layout is not None else {})

    def adopt(self, mine: NDArray[Any], theirs: NDArray[Any], saved: State) -> NDArray[Any]:
        """`theirs`, unless it is of other tasks: then `mine`, with the parts of common tasks copied from
        `theirs`.

        Raises ValueError if that is impossible.
        """
        names = called_now(self._tasks, saved["names"])
        if same_tasks(self._names, names):
            return theirs
        if self._layout is None or "trunk" not in saved:
            raise ValueError("tasks can be added only to a built-in network with two or more hidden layers")
        before = TaskLayout.of_sizes(saved["encoders"], saved["trunk"], saved["heads"])
        known = {name: number for number, name in enumerate(names)}
        places = {here: known[name] for here, name in enumerate(self._names) if name in known}
        return self._layout.adopt(mine, theirs, before, places)

    def try_out(self, theirs: NDArray[Any], saved: State) -> None:
        """Raises ValueError if `adopt` would."""
        self.adopt(np.zeros(self._layout.size if self._layout else 0), theirs, saved)

    def adopt_moments(self, mine: State, theirs: State, size: int, saved: State) -> State:
        """Apply `adopt` to an optimizer's state: to all of its vectors as long as theirs, `size`."""
        return {
            key: self.adopt(mine[key], value, saved) if _shape(value) == (size,) else value
            for key, value in theirs.items()
        }


def called_now(tasks: Sequence[Task], then: Sequence[str]) -> list[str]:
    """Names of a checkpoint's tasks: a single one was named by its environment, and now has a name."""
    alone = len(then) == 1 and tasks[0].env == then[0]
    return [task_names(tasks)[0]] if alone else list(then)


def joining_problems(tables: Mapping[str, Any], state: State) -> Iterator[SettingProblem]:
    """Problem if the network of the tables' tasks can't continue from a learner's `state`."""
    tasks, saved = tasks_in(tables), state["tasks"]
    names, before = list(task_names(tasks)), called_now(tasks, saved["names"])
    joining = TaskMigration(tables["agent"], tasks, spaces_in(tables))
    if same_tasks(names, before):
        problems = list(network_problems(tables, state["parameters"]))
        yield from problems
        if (
            not problems
            and len(names) > 1
            and (now := joining.state()) != {key: saved.get(key) for key in now}
        ):
            yield "tasks", "their environments have other spaces than those that the run has learned"
        return
    both = min(len(names), len(before))
    if names[:both] != before[:both]:
        was = ", ".join(saved["names"])
        yield "tasks", f"the run has learned {was}: those come first, in this order, as their replays do"
        return
    try:
        joining.try_out(state["parameters"], saved)
    except ValueError as error:
        yield "agent", f"its network can't continue with the learned parameters: {error}"


def _shape(value: Any) -> tuple[int, ...]:
    return getattr(value, "shape", ())
