"""Evaluation rollouts: whole episodes with the greedy policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors import State
from actorq.envs.environments import Environments
from actorq.envs.frames import FrameStack
from actorq.envs.make import make_environments
from actorq.envs.task import Task, task_names
from actorq.learning.agent import Agent
from actorq.learning.networks.numpy_acting import Policy, make_policy
from actorq.roles.common.task_assignment import take_part

STEPS_IN_A_ROW = 32
"""Steps between two pauses, so that evaluation does not block the event loop."""

Pause = Callable[[], Awaitable[Any]]


class EvalRollouts:
    """Plays all tasks with one network, each in environments of its own."""

    policies: list[Policy]
    """The policy of each task, in their order."""

    def __init__(self, tasks: Sequence[Task], agent: Agent, episodes: int, seed: int, device: str) -> None:
        """Raises TaskError and ValueError as `make_environments` and `make_policy` do."""
        self._names = task_names(tasks)
        self._environments = [
            make_environments(task, episodes, seed + number) for number, task in enumerate(tasks)
        ]
        spaces = [environments.spaces for environments in self._environments]
        self._stacks = [
            FrameStack(episodes, its.frame_shape, its.dtype, task.frame_stack)
            for its, task in zip(spaces, tasks, strict=True)
        ]
        self.policies = [
            make_policy(agent, its.observation_shape, its.dtype, its.actions, device) for its in spaces
        ]
        self._take_part = take_part(agent, spaces)

    def load(self, parameters: NDArray[Any]) -> None:
        """Copy the network's flat vector. Raises ValueError for another size."""
        for task, policy in enumerate(self.policies):
            policy.load(self._take_part(parameters, task))

    async def play(self, pause: Pause) -> dict[str, NDArray[np.float64]]:
        """The returns of each task by its name, one for each environment; see `play`."""
        parts = zip(self._environments, self._stacks, self.policies, strict=True)
        return {name: await play(*part, pause) for name, part in zip(self._names, parts, strict=True)}

    def close(self) -> None:
        for environments in self._environments:
            environments.close()

    def state(self) -> State:
        return {name: its.state() for name, its in zip(self._names, self._environments, strict=True)}

    def load_state(self, state: State) -> None:
        """Continue with seeds that have not been played; tasks that `state` doesn't have start from the
        beginning.
        """
        for name, environments in zip(self._names, self._environments, strict=True):
            if name in state:
                environments.load_state(state[name])


async def play(
    environments: Environments, stack: FrameStack, policy: Policy, pause: Pause
) -> NDArray[np.float64]:
    """One whole episode in each environment; their undiscounted, unclipped returns, [environments].

    Every environment's first episode counts and no other, so short episodes are not preferred. Raises
    ValueError if a return is not finite.
    """
    returns = np.zeros(environments.count)
    playing = np.full(environments.count, True)
    observations = stack.reset(environments.reset())
    steps = 0
    while playing.any():
        step = environments.step(policy.q_values(observations).argmax(axis=1))
        observations = stack.push(step.observations, step.starts if step.boundary else None)
        if step.finished is not None:
            first = playing[step.finished.environments]
            returns[step.finished.environments[first]] = step.finished.returns[first]
            playing[step.finished.environments] = False
        steps += 1
        if steps % STEPS_IN_A_ROW == 0:
            await pause()
    if not np.isfinite(returns).all():
        raise ValueError(
            f"an episode's return is {returns[~np.isfinite(returns)][0]}: a reward was not finite"
        )
    return returns
