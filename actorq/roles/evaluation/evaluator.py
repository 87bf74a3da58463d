"""Evaluator: plays the greedy policy and detects that the task is solved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Feed, SettingProblem, State, Table, handles
from actorq.envs.task import task_names, tasks_in
from actorq.learning.device import Device
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import network_problems
from actorq.roles.common.task_assignment import same_tasks
from actorq.roles.replay.messages import Weights

from .rollouts import EvalRollouts
from .solve_criterion import Returns, SolveCriterion, StopTable, criterion_problems

log = logging.getLogger("actorq.roles")


class Evaluator(LearningActor):
    """Plays whole episodes of every task every `every_updates` updates, greedily, with the newest weights.

    If `[stop] solved` is reached, in each task with a required return, it plays again with fresh seeds, and
    only if the second means reach it as well is the run solved. It keeps the best parameters.
    """

    class Config(actors.Config):
        every_updates: Annotated[int, Meta(ge=1, description="updates between two evaluations")] = 500
        episodes: Annotated[
            Annotated[int, Meta(ge=1, le=10_000)] | None,
            Meta(
                description="episodes of one evaluation, of each task; absent: those of [stop] solved, or 20"
            ),
        ] = None
        device: Annotated[Device, Meta(description="where the network acts: auto, cpu, cuda:0, …")] = "auto"

    stop: Table[StopTable]
    weights: Feed[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        yield from criterion_problems(tables)

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        if same_tasks(task_names(tasks_in(tables)), state["tasks"]):
            yield from network_problems(tables, state["parameters"])

    async def on_start(self) -> None:
        solved, tasks = self.stop.solved, self.all_tasks
        self._marks = SolveCriterion(task_names(tasks), solved)
        episodes = self.config.episodes or (solved.episodes if solved else 20)
        self._greedy = EvalRollouts(tasks, self.agent, episodes, self.seed, self.config.device)
        self._newest: Weights | None = None
        self._arrived = self.event()
        self._next_updates = self.config.every_updates
        self._best: NDArray[Any] | None = None
        self._best_score = -np.inf
        self._best_updates = 0

    @handles
    async def follow(self, weights: Weights) -> None:
        version, before = weights.version, self._newest
        if before is not None and version.incarnation != before.version.incarnation:
            self._next_updates = version.updates  # another incarnation of the learner counts its updates anew
        self._newest = weights
        if version.updates >= self._next_updates:
            self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived = self.event()
            weights = self._newest
            assert weights is not None
            self._next_updates = weights.version.updates + self.config.every_updates
            await self._evaluate(weights)

    async def _evaluate(self, weights: Weights) -> None:
        self._greedy.load(weights.parameters)
        returns = await self._play()
        if self._marks.score(returns) >= self._best_score:
            self._keep(weights, returns)
        good_enough = self.is_good_enough(weights)
        if good_enough and self._marks.reached(returns):
            again = await self._play()
            if self._marks.reached(again):
                self._keep(weights, again)
                self.report("solved", 1.0)
                await self.event().wait()  # no more evaluations: the readings stay those of what is kept

    async def _play(self) -> Returns:
        returns = await self._greedy.play(partial(self.sleep, 0))
        self._report(returns)
        return returns

    def is_good_enough(self, weights: Weights) -> bool:
        """Further conditions of a solved task, for subclasses. Called once in every evaluation."""
        return True

    def _keep(self, weights: Weights, returns: Returns) -> None:
        self._best, self._best_updates = weights.parameters, weights.version.updates
        self._best_score = self._marks.score(returns)

    def _report(self, returns: Returns) -> None:
        """Report the means of all episodes and, with several tasks, of each task."""
        parts = {"": np.concatenate(list(returns.values()))}
        if len(returns) > 1:
            parts |= {f"/{name}": its for name, its in returns.items()}
        for suffix, its in parts.items():
            self.report(f"evaluation_return_mean{suffix}", float(its.mean()))
            self.report(f"evaluation_return_std{suffix}", float(its.std()))
            self.report(f"evaluation_episodes{suffix}", len(its))
        self.progress("evaluations")

    async def on_stop(self) -> None:
        self._greedy.close()

    def state(self) -> State:
        if self._best is None:
            return {}
        return {
            "tasks": list(task_names(self.all_tasks)),
            "parameters": np.array(self._best),
            "updates": self._best_updates,
            "score": self._best_score,
            "environments": self._greedy.state(),
            "next_updates": self._next_updates,
        }

    def load_state(self, state: State) -> None:
        if state:
            if same_tasks(
                task_names(self.all_tasks), state["tasks"]
            ):  # otherwise the best belongs to another network
                self._best = state["parameters"]
                self._best_updates, self._best_score = state["updates"], state["score"]
            self._greedy.load_state(state["environments"])
            self._next_updates = state["next_updates"]
