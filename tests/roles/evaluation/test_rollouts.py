"""Evaluation rollouts: whole episodes."""

from __future__ import annotations

from typing import Any

import anyio
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from actorq.envs.environments import Environments
from actorq.envs.frames import FrameStack
from actorq.envs.make import make_environments
from actorq.envs.task import Task
from actorq.learning.networks.numpy_acting import make_policy
from actorq.roles.evaluation.rollouts import play
from tests.roles.actors import AGENT

pytestmark = pytest.mark.anyio


class Gloomy(gymnasium.Env[Any, Any]):
    """Its rewards are no numbers."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(0.0, 1.0, (1,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(1, np.float32), float("nan"), True, False, {}


async def played(environments: Environments) -> NDArray[np.float64]:
    spaces = environments.spaces
    stack = FrameStack(environments.count, spaces.frame_shape, spaces.dtype, 1)
    policy = make_policy(AGENT, spaces.observation_shape, spaces.dtype, spaces.actions)
    return await play(environments, stack, policy, anyio.lowlevel.checkpoint)


@pytest.mark.parametrize("env", ["CartPole-v1", "actorq/GridWorld-v0"])
async def test_each_environments_first_episode_counts(env: str) -> None:
    """With all parameters 0 the first action is always taken; the twin plays on until all have ended."""
    returns = await played(make_environments(Task(env=env), 5, seed=3))
    twin = make_environments(Task(env=env), 5, seed=3)
    twin.reset()
    firsts: dict[int, float] = {}
    while len(firsts) < 5:
        finished = twin.step(np.zeros(5, np.int64)).finished
        if finished is not None:
            for which, total in zip(finished.environments, finished.returns, strict=True):
                firsts.setdefault(int(which), float(total))
    assert returns.tolist() == [firsts[which] for which in range(5)]


async def test_rewards_that_are_no_numbers_are_an_error() -> None:
    task = Task(env="tests.roles.evaluation.test_rollouts:Gloomy")
    with pytest.raises(ValueError, match="return is nan: a reward was not finite"):
        await played(make_environments(task, 2, seed=0))
