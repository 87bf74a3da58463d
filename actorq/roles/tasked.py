"""What the roles that learn or act have in common: the task or tasks, and the network that is to do them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import actorq.actors as actors
from actorq.actors import Table
from actorq.dqn.agent import Agent
from actorq.envs.task import Task, Tasks, tasks_in

from .faults import environment_faults


class Tasked(actors.Actor):
    """Reads `[agent]` and either `[task]` or `[[tasks]]`."""

    task: Table[Task | None] = None
    tasks: Table[Tasks | None] = None
    agent: Table[Agent]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return environment_faults(tables)

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """All that are learned: one, or `[[tasks]]` in their order."""
        return tasks_in({"task": self.task, "tasks": self.tasks})
