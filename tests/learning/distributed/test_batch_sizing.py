"""Dealing by measured speed: whole parts in proportion, and workers that are done together."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.learning.distributed.batch_sizing import BatchSizing, apportioned, least_rows, most_rows

from .batch_sizing_table import rows

SPEEDS = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=12)


@given(SPEEDS, st.integers(1, 4096), st.data())
def test_parts_are_whole_and_proportional_beyond_the_least(
    weights: list[float], each: int, data: st.DataObject
) -> None:
    total, least = each * len(weights), data.draw(st.integers(0, each))
    parts = apportioned(total, weights, least)
    assert sum(parts) == total
    assert min(parts) >= least
    above = [(part, weight) for part, weight in zip(parts, weights, strict=True) if part > least]
    rest = sum(part for part, _ in above)
    for part, weight in above:
        assert abs(part - rest * weight / math.fsum(weight for _, weight in above)) < len(weights)


def test_less_than_the_least_is_no_deal() -> None:
    with pytest.raises(ValueError, match="5 can't be divided among 3: each must have at least 2"):
        apportioned(5, [1.0, 1.0, 1.0], 2)


@given(st.integers(1, 8), st.data())
def test_no_worker_gets_more_than_the_maximum(workers: int, data: st.DataObject) -> None:
    tasks = data.draw(st.integers(1, 4))
    batch_size = data.draw(st.integers(tasks, 512))
    least = least_rows(batch_size, tasks)
    alone = [1e9] + [1.0] * (workers - 1)
    assert max(apportioned(workers * batch_size, alone, least)) == most_rows(batch_size, tasks, workers)


def test_before_anything_is_measured_all_have_the_batch_size() -> None:
    sizing = BatchSizing(3, 32)
    assert [sizing.handed(worker, 0.0) for worker in range(3)] == [32, 32, 32]


def test_twice_as_fast_is_twice_the_rows() -> None:
    sizing = BatchSizing(2, 300)
    for worker, seconds in enumerate((1.0, 2.0)):
        rows = sizing.handed(worker, 5.0)
        sizing.arrived(worker, rows, 5.0 + seconds)
    sizing.begin_round()
    assert [sizing.handed(worker, 9.0) for worker in range(2)] == [400, 200]


def test_a_round_is_dealt_by_one_measurement() -> None:
    """Though one is handed its version after another has pushed: or rows would add up to something else."""
    sizing = BatchSizing(2, 300)
    for worker, seconds in enumerate((1.0, 2.0)):
        sizing.arrived(worker, sizing.handed(worker, 5.0), 5.0 + seconds)
    sizing.begin_round()
    first = sizing.handed(0, 10.0)
    sizing.arrived(0, first, 10.1)
    assert first + sizing.handed(1, 10.2) == 600


def test_the_dead_have_no_rows_and_begin_anew() -> None:
    sizing = BatchSizing(3, 100)
    for worker in range(3):
        sizing.arrived(worker, sizing.handed(worker, 0.0), 1.0 + 9 * (worker == 2))
    sizing.left(2)
    assert [sizing.handed(worker, 20.0) for worker in range(2)] == [100, 100]
    assert sizing.handed(2, 20.0) == 100, "of its new life nothing is known: it counts as the mean"


def test_a_clock_that_stands_still_measures_nothing() -> None:
    sizing = BatchSizing(2, 10)
    sizing.arrived(0, sizing.handed(0, 1.0), 1.0)
    sizing.arrived(1, 10, 7.0)  # it was handed nothing
    sizing.begin_round()
    assert [sizing.handed(worker, 8.0) for worker in range(2)] == [10, 10]


def round_seconds(
    sizing: BatchSizing, overheads: list[float], rows_per_second: list[float], rounds: int
) -> list[float]:
    """How long each worker takes in the last of so many rounds, each up to 10 % more or less."""
    rng = random.Random(0)
    taken: list[float] = []
    now = 0.0
    for _ in range(rounds):
        sizing.begin_round()
        rows = [sizing.handed(worker, now) for worker in range(len(overheads))]
        taken = [
            overhead + own / speed
            for overhead, own, speed in zip(overheads, rows, rows_per_second, strict=True)
        ]
        for worker, seconds in enumerate(taken):
            sizing.arrived(worker, rows[worker], now + seconds * rng.uniform(0.9, 1.1))
        now += 2 * max(taken)
    return taken


@pytest.mark.parametrize("overhead", [0.0, 0.005])
@pytest.mark.parametrize("speeds", [[1e4, 1e4], [1e4, 1e3], [1e4, 1e4, 1e4, 1e3], [5e3, 1e4, 2e4, 4e4]])
def test_after_a_while_all_are_done_together(speeds: list[float], overhead: float) -> None:
    sizing = BatchSizing(len(speeds), 256)
    taken = round_seconds(sizing, [overhead] * len(speeds), speeds, 200)
    equal = overhead + 256 / min(speeds)
    assert max(taken) < 1.25 * min(taken)
    assert max(taken) < 1.1 * equal


def test_a_worker_gets_fewer_rows_while_it_is_slow() -> None:
    sizing = BatchSizing(2, 256)
    round_seconds(sizing, [0.0, 0.0], [1e4, 1e4], 50)
    round_seconds(sizing, [0.0, 0.0], [1e4, 1e2], 50)
    assert sizing.handed(1, 1e6) < 12
    round_seconds(sizing, [0.0, 0.0], [1e4, 1e4], 300)
    assert 220 < sizing.handed(1, 1e6) < 290


def test_the_page_shows_what_the_simulation_gives() -> None:
    page = (Path(__file__).parents[3] / "docs" / "heterogeneous.md").read_text().splitlines()
    assert [row for row in rows() if row not in page] == []
