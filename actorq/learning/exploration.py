"""Exploration: epsilon schedules, the Ape-X ladder, epsilon-greedy choice. Free of torch."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class LinearEpsilon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A straight line from `start` to `end` over `env_steps` environment steps, then `end`."""

    start: Annotated[float, Meta(ge=0.0, le=1.0, description="Epsilon at environment step 0.")] = 1.0
    end: Annotated[float, Meta(ge=0.0, le=1.0, description="Epsilon from env_steps on.")] = 0.05
    env_steps: Annotated[int, Meta(gt=0, description="Environment steps until epsilon reaches its end.")]


Epsilon = Probability | LinearEpsilon
"""A setting: one number, constant in time, or a line."""


def epsilon_at(schedule: float | LinearEpsilon, env_steps: int) -> float:
    """Epsilon after this number of environment steps."""
    if not isinstance(schedule, LinearEpsilon):
        return schedule
    done = min(env_steps / schedule.env_steps, 1.0)
    return schedule.start + done * (schedule.end - schedule.start)


def ape_x_ladder(explorers: int, *, base: float = 0.4, alpha: float = 7.0) -> NDArray[np.float64]:
    """Constant epsilons, one per explorer: base^(1 + alpha * i / (explorers - 1)); [explorers], falling.

    Horgan et al. 2018 (arXiv 1803.00933), section 4. A lone explorer gets `base`.
    Raises ValueError if explorers < 1, base is outside 0..1, or alpha is negative.
    """
    if explorers < 1:
        raise ValueError(f"an epsilon ladder has one rung per explorer, at least 1; got {explorers}")
    if not (0.0 <= base <= 1.0 and alpha >= 0.0):
        raise ValueError(f"an epsilon ladder needs base in 0..1 and alpha >= 0; got {base} and {alpha}")
    rung = np.arange(explorers) / max(explorers - 1, 1)
    return np.power(base, 1.0 + alpha * rung)


def epsilon_greedy(
    q_values: NDArray[np.floating], epsilon: float | NDArray[np.floating], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Actions [B] for Q-values [B, A]: with probability epsilon uniformly random, otherwise the greedy one.

    `epsilon` is one number or one per row [B]. Of equal Q-values the first is taken. The same numbers are
    drawn from the generator whatever the Q-values, so two runs that differ in one action stay comparable.
    """
    rows, actions = q_values.shape
    explore = generator.random(rows) < epsilon
    return np.where(explore, generator.integers(actions, size=rows), q_values.argmax(axis=1))
