"""First level of sampling from several shards: how many draws each gets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def split_draws(totals: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distribute `count` draws over shards in proportion to `totals` [k], their sums of p^alpha: [k], sum
    `count`.

    Stratified, as draws within a shard are: the whole is divided into `count` equal parts, and one point in
    each selects a shard. So shard s is expected count * totals[s] / sum(totals) draws, and as long as totals
    don't change, the two levels together draw each transition as one tree over all shards would. Raises
    `ValueError` unless the totals are finite, not negative, and not all 0.
    """
    ends = np.cumsum(totals)
    if not (np.isfinite(ends[-1]) and ends[-1] > 0.0 and (totals >= 0.0).all()):
        raise ValueError(
            f"shards weigh {totals.tolist()}; there must be something to draw, and nothing negative"
        )
    points = (np.arange(count) + rng.random(count)) * (ends[-1] / count)
    # A point that rounding moves to the very end belongs to the last shard with a positive total.
    points = np.minimum(points, np.nextafter(ends[-1], 0.0))
    return np.bincount(np.searchsorted(ends, points, side="right"), minlength=len(totals))
