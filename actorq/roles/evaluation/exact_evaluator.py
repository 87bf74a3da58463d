"""Exact evaluator of a grid world: measures the error of the learned Q-values."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import SettingProblem
from actorq.envs.grid import Grid
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.roles.replay.messages import Weights

from .evaluator import Evaluator

log = logging.getLogger("actorq.roles")

GRID_WORLD = "actorq/GridWorld-v0"


class ExactEvaluator(Evaluator):
    """Evaluates as an evaluator does, and compares the learned Q-values with value iteration's exact Q*.

    Solved requires also an error of at most `max_q_error` at every reachable state and action. The run ends
    by logging the map of the Q-values that were measured last.
    """

    class Config(Evaluator.Config):
        max_q_error: Annotated[
            float,
            Meta(gt=0, description="largest |Q - Q*|, over all reachable states and actions, if solved"),
        ] = 0.05

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        agent, task = tables.get("agent"), tables.get("task")
        if isinstance(tables.get("tasks"), tuple):
            yield "tasks", "exact Q-values are compared with those of one [task]"
        if isinstance(task, Task) and task.env != GRID_WORLD:
            yield "task.env", f"{task.env} has no exact Q-values to compare with; {GRID_WORLD} has"
        if isinstance(task, Task) and task.frame_stack != 1:
            yield "task.frame_stack", f"is {task.frame_stack}, but exact Q-values are those of single cells"
        if isinstance(task, Task) and (task.reward_scale, task.reward_clip) != (1.0, None):
            setting = "reward_clip" if task.reward_clip is not None else "reward_scale"
            yield f"task.{setting}", "exact Q-values are those of the grid's own rewards: leave it out"
        if isinstance(agent, Agent) and agent.gamma == 1.0:
            yield "agent.gamma", "is 1, where value iteration need not converge; it must be below 1"

    async def on_start(self) -> None:
        await super().on_start()
        (task,) = self.all_tasks
        self._grid = Grid(**task.options)
        self._exact = self._grid.value_iteration(self.agent.gamma)
        self._learned: NDArray[Any] | None = None

    def is_good_enough(self, weights: Weights) -> bool:
        every_state = np.eye(self._grid.count, dtype=np.float32)
        self._learned = learned = np.array(self._greedy.policies[0].q_values(every_state))
        error = float(np.abs(learned - self._exact)[self._grid.reachable].max())
        self.report("q_error_max", error)
        return error <= self.config.max_q_error

    async def on_stop(self) -> None:
        await super().on_stop()
        if self._learned is not None:
            log.info("what was learned:\n%s", self._grid.render_values(self._learned))
