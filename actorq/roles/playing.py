"""Playing whole episodes with the greedy policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.dqn.acting import Policy
from actorq.envs.environments import Environments
from actorq.envs.frames import FrameStack

STEPS_IN_A_ROW = 32
"""Steps between two pauses, so that playing does not hold the event loop."""


async def play(
    environments: Environments, stack: FrameStack, policy: Policy, pause: Callable[[], Awaitable[Any]]
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
