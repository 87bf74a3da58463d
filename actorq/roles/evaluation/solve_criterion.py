"""Solve criterion: the required return of each task, from `[stop] solved`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.actors import SettingProblem
from actorq.envs.task import task_names, tasks_in

Returns = Mapping[str, NDArray[np.float64]]
"""Returns of one evaluation, by the task's name."""


class ReturnToReach(msgspec.Struct, frozen=True):
    """The keys of `[stop] solved` that evaluators read."""

    mean_return: float | dict[str, float] = msgspec.field(name="return")
    episodes: int = 20


class StopTable(msgspec.Struct, frozen=True):
    """The keys of `[stop]` that evaluators read."""

    solved: ReturnToReach | None = None


def criterion_problems(tables: Mapping[str, Any]) -> Iterator[SettingProblem]:
    """Problems with `[stop] solved`: an ambiguous return, or names of missing tasks."""
    if "tasks" not in tables:  # missing if their problems have been reported
        return
    names, stop = task_names(tasks_in(tables)), tables.get("stop")
    if not isinstance(stop, StopTable) or stop.solved is None or not names:
        return
    wanted = stop.solved.mean_return
    if not isinstance(wanted, dict):
        if len(names) > 1:
            example = ", ".join(f"{name} = …" for name in names)
            problem = f"is {wanted:g}, but of which of {len(names)} tasks? Give each its own: {{ {example} }}"
            yield "stop.solved.return", problem
        return
    if not wanted:
        yield "stop.solved.return", "names no task"
    for name in wanted:
        if name not in names:
            yield f"stop.solved.return.{name}", f"no task has this name; there are {', '.join(names)}"


class SolveCriterion:
    """Decides whether returns reach the required ones, and which of two evaluations is better."""

    def __init__(self, names: Sequence[str], solved: ReturnToReach | None) -> None:
        wanted = solved.mean_return if solved is not None else {}
        self._alone = len(names) == 1
        self._marks = wanted if isinstance(wanted, dict) else {names[0]: wanted}

    def reached(self, returns: Returns) -> bool:
        """Whether each task with a required return reaches it. Never without any."""
        return bool(self._marks) and all(returns[name].mean() >= mark for name, mark in self._marks.items())

    def score(self, returns: Returns) -> float:
        """Higher is better. A single task's score is its mean return.

        Returns of several tasks can't be added: each counts as a share of its required return, at most 1.
        Without required returns it is the mean over the tasks.
        """
        means = {name: float(its.mean()) for name, its in returns.items()}
        if self._alone or not self._marks:
            return float(np.mean(list(means.values())))
        shares = [min(means[name], mark) / (abs(mark) or 1.0) for name, mark in self._marks.items()]
        return float(np.mean(shares))
