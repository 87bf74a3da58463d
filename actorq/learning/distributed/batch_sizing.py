"""Dynamic batch sizing: batches in proportion to the workers' speeds, so that all finish together."""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHT = 0.05
"""Weight of a new measurement in a worker's running means."""

MOST_TIMES_LESS = 16
"""The least batch of a worker is this fraction of `agent.batch_size`."""


class BatchSizing:
    """Divides rows among the workers by their speed: as many as the live ones have at `batch_size` each.

    A worker's *speed* is its rows divided by the seconds from receiving a version until its gradient arrives,
    everything included, both as running means. A worker without one counts as the mean of the others. Every
    live worker has `least` rows at least: otherwise it could not be measured again, and below some number a
    gradient's message takes longer than its rows, so that fewer would not help.
    """

    def __init__(self, workers: int, batch_size: int, least: int = 1) -> None:
        """For workers numbered from 0, all of which get rows until they leave."""
        self._batch_size, self._least = batch_size, least
        self._members = set(range(workers))
        self._means: dict[int, tuple[float, float]] = {}
        """Rows and seconds of the measured workers."""
        self._handed: dict[int, float] = {}
        """The times at which computing workers started, in seconds."""
        self._rows: dict[int, int] = {}
        """The present division among all members; empty when it must be computed anew."""

    def handed(self, worker: int, now: float) -> int:
        """The worker receives a version at time `now` (s); returns the rows of its gradient."""
        if worker not in self._members:
            self._members.add(worker)
            self._rows = {}
        self._handed[worker] = now
        if not self._rows:
            members = sorted(self._members)
            shares = apportioned(self._batch_size * len(members), self._speeds_of(members), self._least)
            self._rows = dict(zip(members, shares, strict=True))
        return self._rows[worker]

    def arrived(self, worker: int, rows: int, now: float) -> None:
        """A gradient with this number of rows has arrived for the version that the worker received last."""
        seconds = now - self._handed.pop(worker, now)
        if seconds <= 0.0:  # without a version, or by a clock that stops while a worker computes
            return
        mean_rows, mean_seconds = self._means.get(worker, (rows, seconds))
        self._means[worker] = (
            mean_rows + WEIGHT * (rows - mean_rows),
            mean_seconds + WEIGHT * (seconds - mean_seconds),
        )

    def begin_round(self) -> None:
        """From here on rows are divided by the present speeds."""
        self._rows = {}

    def left(self, worker: int) -> None:
        """The worker died, and its `batch_size` is subtracted from the sum; its next incarnation is measured
        anew.
        """
        self._members.discard(worker)
        self._means.pop(worker, None)
        self._handed.pop(worker, None)
        self._rows = {}

    def _speeds_of(self, members: Sequence[int]) -> list[float]:
        speeds = {worker: rows / seconds for worker, (rows, seconds) in self._means.items()}
        mean = sum(speeds.values()) / len(speeds) if speeds else 1.0
        return [speeds.get(worker, mean) for worker in members]


def least_rows(batch_size: int, tasks: int) -> int:
    """The least number of rows of a worker."""
    return max(tasks, batch_size // MOST_TIMES_LESS)


def most_rows(batch_size: int, tasks: int, workers: int) -> int:
    """The largest number of rows of one of these workers: all but the others' least."""
    return workers * batch_size - (workers - 1) * least_rows(batch_size, tasks)


def apportioned(total: int, weights: Sequence[float], least: int = 1) -> list[int]:
    """`total` in whole parts, in proportion to positive weights; parts below `least` are raised to it.

    The largest remainders are rounded up (Hamilton's method), the first of equal ones. Raises ValueError if
    `total` is too small.
    """
    if total < least * len(weights):
        raise ValueError(f"{total} can't be divided among {len(weights)}: each must have at least {least}")
    parts = [least] * len(weights)
    free = list(range(len(weights)))
    rest = total
    while free:
        scale = rest / math.fsum(weights[each] for each in free)
        above = [each for each in free if weights[each] * scale >= least]
        if len(above) == len(free):
            break
        rest -= least * (len(free) - len(above))
        free = above
    for each in free:
        parts[each] = math.floor(weights[each] * scale)
    by_remainder = sorted(free, key=lambda each: parts[each] - weights[each] * scale)
    for each in by_remainder[: total - sum(parts)]:
        parts[each] += 1
    return parts
