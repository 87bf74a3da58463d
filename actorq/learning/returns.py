"""n-step returns over a block of environment steps. Free of torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class NStep(NamedTuple):
    """One window per environment step, [T, E]; the target is `returns + discounts * Q(s_{t+length})`."""

    returns: NDArray[np.float32]
    """Sum over k < length of (the product of the discounts before k) * reward k."""
    discounts: NDArray[np.float32]
    """Product of the window's discounts; 0 if it ended in termination."""
    length: NDArray[np.int32]
    """Environment steps in the window, 1..n."""
    complete: NDArray[np.bool_]
    """False where the block ended first: fewer than n steps, and no end of an episode among them."""


def n_step(rewards: NDArray[Any], discounts: NDArray[Any], ends: NDArray[np.bool_], n: int) -> NStep:
    """The n-step window that starts at each of T steps of E environments.

    rewards [T, E]: reward of the step; discounts [T, E]: gamma, or 0 where the step terminated the episode;
    ends [T, E]: the episode ended with this step, by termination or truncation, and no window passes it.

    A truncated window keeps its discounts, gamma^length, and bootstraps from the true last observation;
    a terminated one has discount 0. Near an end windows are shorter than n; near the end of the block they
    are not complete, and belong to a later call. Sums are made in float64.

    Sutton & Barto 2018, equation 7.1, with a discount per step as in the DQN Zoo (Quan & Ostrovski 2020).
    Raises ValueError for n < 1 and for shapes that differ.
    """
    if n < 1:
        raise ValueError(f"an n-step return sums at least one reward; got n = {n}")
    if not (rewards.ndim == 2 and rewards.shape == discounts.shape == ends.shape):
        raise ValueError(
            "rewards, discounts and ends must be [T, E] alike;"
            f" got {rewards.shape}, {discounts.shape} and {ends.shape}"
        )
    total = np.zeros(rewards.shape)
    product = np.ones(rewards.shape)
    length = np.zeros(rewards.shape, np.int32)
    open_ = np.ones(rewards.shape, np.bool_)
    steps = len(rewards)
    for k in range(min(n, steps)):
        # Rows 0 .. steps - k - 1 have a step k ahead of them inside the block.
        here, ahead = slice(0, steps - k), slice(k, steps)
        total[here] += np.where(open_[here], product[here] * rewards[ahead], 0.0)
        product[here] *= np.where(open_[here], discounts[ahead], 1.0)
        length[here] += open_[here]
        open_[here] &= ~ends[ahead]
    return NStep(total.astype(np.float32), product.astype(np.float32), length, ~open_ | (length == n))
