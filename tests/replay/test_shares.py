"""Division of draws among shards: as one tree over all of them would make it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2  # type: ignore[import-untyped]

from actorq.replay.shares import split_draws

TOTALS = st.lists(st.floats(0.0, 1e6), min_size=1, max_size=8).filter(lambda totals: sum(totals) > 1e-3)


@given(totals=TOTALS, count=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_each_shard_gets_its_share_within_one_draw_at_each_end(
    totals: list[float], count: int, seed: int
) -> None:
    given_totals = np.array(totals)
    draws = split_draws(given_totals, count, np.random.default_rng(seed))
    expected = given_totals / given_totals.sum() * count
    assert draws.sum() == count
    assert (np.abs(draws - expected) < 2.0 + 1e-6 * count).all()
    assert (draws[given_totals == 0.0] == 0).all()


@pytest.mark.parametrize("count", [1, 3, 64])
def test_on_average_shares_are_exact(count: int) -> None:
    totals, rng = np.array([0.5, 0.0, 3.25, 1.25]), np.random.default_rng(3)
    trials = 20_000
    draws = np.sum([split_draws(totals, count, rng) for _ in range(trials)], axis=0)
    held = totals > 0.0
    expected = (totals / totals.sum() * count * trials)[held]
    statistic = (((draws[held] - expected) ** 2) / expected).sum()
    assert statistic < chi2.ppf(1.0 - 1e-4, held.sum() - 1)


@pytest.mark.parametrize("totals", [[0.0, 0.0], [1.0, np.nan], [1.0, np.inf], [2.0, -1.0]])
def test_what_can_not_be_drawn_from_is_refused(totals: list[float]) -> None:
    with pytest.raises(ValueError, match="shards weigh"):
        split_draws(np.array(totals), 4, np.random.default_rng(0))
