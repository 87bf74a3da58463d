"""The decider: plays the greedy policy and says when the task is solved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Feed, State, Table, handles
from actorq.dqn.acting import make_policy
from actorq.dqn.device import Device

from .faults import device_faults, network_faults
from .messages import Weights
from .playing import play
from .tasked import Tasked

log = logging.getLogger("actorq.roles")


class Solved(msgspec.Struct, frozen=True):
    """What this role reads of `[stop] solved`."""

    mean_return: float = msgspec.field(name="return")
    episodes: int = 20


class Stop(msgspec.Struct, frozen=True):
    """What this role reads of `[stop]`."""

    solved: Solved | None = None


class Evaluator(Tasked):
    """Every so many updates plays whole episodes, greedily, with the newest weights.

    Where `[stop] solved` is reached it plays again on fresh seeds, and only if the second mean reaches it as
    well is the task solved. It keeps the parameters that did best.
    """

    class Config(actors.Config):
        every_updates: Annotated[int, Meta(ge=1, description="updates between two evaluations")] = 500
        episodes: Annotated[
            Annotated[int, Meta(ge=1, le=10_000)] | None,
            Meta(description="episodes of one evaluation; absent: as [stop] solved says, or 20"),
        ] = None
        device: Annotated[Device, Meta(description="where the network acts: auto, cpu, cuda:0, …")] = "auto"

    stop: Table[Stop]
    weights: Feed[Weights]

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_faults(config.device)

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        return network_faults(tables, state["parameters"])

    async def on_start(self) -> None:
        from actorq.envs.frames import FrameStack
        from actorq.envs.make import make_environments

        self._solved_at = self.stop.solved
        episodes = self.config.episodes or (self._solved_at.episodes if self._solved_at else 20)
        self._environments = make_environments(self.task, episodes, self.seed)
        spaces = self._environments.spaces
        self._stack = FrameStack(episodes, spaces.frame_shape, spaces.dtype, self.task.frame_stack)
        self._policy = make_policy(
            self.agent, spaces.observation_shape, spaces.dtype, spaces.actions, self.config.device
        )
        self._newest: Weights | None = None
        self._arrived = self.event()
        self._next_updates = self.config.every_updates
        self._best: NDArray[Any] | None = None
        self._best_return = -np.inf
        self._best_updates = 0

    @handles
    async def follow(self, weights: Weights) -> None:
        version, before = weights.version, self._newest
        if before is not None and version.incarnation != before.version.incarnation:
            self._next_updates = version.updates  # another life of the learner counts for itself
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
        self._policy.load(weights.parameters)
        returns = await self._play()
        self._keep_if_best(weights, returns)
        self._report(returns)
        good_enough = self.is_good_enough(weights)
        if good_enough and self._reaches(returns):
            again = await self._play()
            self._report(again)
            if self._reaches(again):
                self._keep(weights, again)
                self.report("solved", 1.0)
                await self._leave_it_at_that()

    async def _play(self) -> NDArray[np.float64]:
        return await play(self._environments, self._stack, self._policy, self._pause)

    async def _pause(self) -> None:
        await self.sleep(0)

    async def _leave_it_at_that(self) -> None:
        """Solved: evaluate no more, so that the figures stay those of the parameters that are kept."""
        await self.event().wait()

    def _reaches(self, returns: NDArray[np.float64]) -> bool:
        return self._solved_at is not None and bool(returns.mean() >= self._solved_at.mean_return)

    def is_good_enough(self, weights: Weights) -> bool:
        """What else must hold to be solved; for subclasses. Asked once in every evaluation."""
        return True

    def _keep_if_best(self, weights: Weights, returns: NDArray[np.float64]) -> None:
        if returns.mean() >= self._best_return:
            self._keep(weights, returns)

    def _keep(self, weights: Weights, returns: NDArray[np.float64]) -> None:
        self._best, self._best_updates = weights.parameters, weights.version.updates
        self._best_return = float(returns.mean())

    def _report(self, returns: NDArray[np.float64]) -> None:
        self.report("evaluation_return_mean", float(returns.mean()))
        self.report("evaluation_return_std", float(returns.std()))
        self.report("evaluation_episodes", len(returns))
        self.progress("evaluations")

    async def on_stop(self) -> None:
        self._environments.close()

    def state(self) -> State:
        if self._best is None:
            return {}
        return {
            "parameters": np.array(self._best),
            "updates": self._best_updates,
            "return_mean": self._best_return,
            "environments": self._environments.state(),
            "next_updates": self._next_updates,
        }

    def load_state(self, state: State) -> None:
        if state:
            self._best = state["parameters"]
            self._best_updates, self._best_return = state["updates"], state["return_mean"]
            self._environments.load_state(state["environments"])
            self._next_updates = state["next_updates"]
