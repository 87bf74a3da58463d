"""How many transitions each worker's next batch is of, so that fast and slow ones are done together."""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHT = 0.05
"""Of a new measurement in a worker's running means."""

MOST_TIMES_LESS = 16
"""What the slowest worker is dealt, of `agent.batch_size`."""


class BatchSizing:
    """Deals the workers' rows by their speed: as many as those who live have at `batch_size` each.

    A worker's *speed* is its rows by the seconds from being handed a version until its gradient of it came,
    all that took it time, both as running means. Who has none yet counts as the mean of those who have.
    Everybody living has `least` rows at least: nobody would learn otherwise that it has become faster, and
    below some number a gradient's message takes longer than its rows, so that fewer would help nobody.
    """

    def __init__(self, workers: int, batch_size: int, least: int = 1) -> None:
        """Of workers numbered from 0, all of whom are dealt to until they leave."""
        self._batch_size, self._least = batch_size, least
        self._members = set(range(workers))
        self._means: dict[int, tuple[float, float]] = {}
        """Of those who were measured: rows, seconds."""
        self._handed: dict[int, float] = {}
        """When those who compute began, in seconds."""
        self._rows: dict[int, int] = {}
        """What all members are dealt as it stands; empty when it is to be worked out anew."""

    def handed(self, worker: int, now: float) -> int:
        """The worker goes on with a version at time `now` (s); returns the rows of its gradient."""
        if worker not in self._members:
            self._members.add(worker)
            self._rows = {}
        self._handed[worker] = now
        if not self._rows:
            members = sorted(self._members)
            shares = apportioned(self._batch_size * len(members), self._speeds_of(members), self._least)
            self._rows = dict(zip(members, shares, strict=True))
        return self._rows[worker]

    def came(self, worker: int, rows: int, now: float) -> None:
        """A gradient of so many rows has come of what the worker was handed last."""
        seconds = now - self._handed.pop(worker, now)
        if seconds <= 0.0:  # of nothing handed, or by a clock that stands still while one computes
            return
        mean_rows, mean_seconds = self._means.get(worker, (rows, seconds))
        self._means[worker] = (
            mean_rows + WEIGHT * (rows - mean_rows),
            mean_seconds + WEIGHT * (seconds - mean_seconds),
        )

    def begin_round(self) -> None:
        """What is handed from here on is dealt by the speeds as they are now."""
        self._rows = {}

    def left(self, worker: int) -> None:
        """The worker died, and its `batch_size` leaves the sum with it; its next life is measured anew."""
        self._members.discard(worker)
        self._means.pop(worker, None)
        self._handed.pop(worker, None)
        self._rows = {}

    def _speeds_of(self, members: Sequence[int]) -> list[float]:
        speeds = {worker: rows / seconds for worker, (rows, seconds) in self._means.items()}
        mean = sum(speeds.values()) / len(speeds) if speeds else 1.0
        return [speeds.get(worker, mean) for worker in members]


def least_rows(batch_size: int, tasks: int) -> int:
    """What everybody is dealt at least."""
    return max(tasks, batch_size // MOST_TIMES_LESS)


def most_rows(batch_size: int, tasks: int, workers: int) -> int:
    """What one of so many workers may be dealt: all but the others' least."""
    return workers * batch_size - (workers - 1) * least_rows(batch_size, tasks)


def apportioned(total: int, weights: Sequence[float], least: int = 1) -> list[int]:
    """`total` in whole parts, in proportion to positive weights; who would have less than `least` has that.

    The largest remainders are rounded up (Hamilton's method), the first of equal ones. Raises ValueError if
    `total` is too little for that.
    """
    if total < least * len(weights):
        raise ValueError(f"{total} can't be dealt to {len(weights)}: each is to have at least {least}")
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
