"""Gorila's outlier filter: which losses pass, and that it adapts to lasting changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.roles.parameter_server.gradients import WARM_UP, OutlierFilter


def warmed_up(deviations: float | None = 3.0) -> OutlierFilter:
    """After losses of mean 2 and deviation 0.5."""
    outliers = OutlierFilter(deviations)
    for loss in (1.5, 2.5) * (WARM_UP // 2):
        assert not outliers.is_outlier(loss)
    return outliers


@pytest.mark.parametrize(("loss", "outlier"), [(3.4, False), (3.6, True), (0.0, False), (1e30, True)])
def test_the_bound_lies_so_many_deviations_above_the_mean(loss: float, outlier: bool) -> None:
    assert warmed_up(3.0).is_outlier(loss) == outlier


def test_without_a_bound_nothing_is_an_outlier() -> None:
    assert not warmed_up(None).is_outlier(1e30)


def test_the_first_losses_are_none() -> None:
    outliers = OutlierFilter(1.0)
    assert not any(outliers.is_outlier(10.0**n) for n in range(WARM_UP))


def test_a_single_one_moves_the_bound_little() -> None:
    outliers = warmed_up(3.0)
    assert outliers.is_outlier(1e30)
    assert outliers.is_outlier(4.0)


@given(deviations=st.floats(2.0, 6.0), level=st.floats(2.0, 100.0))
def test_losses_that_stay_high_are_soon_none(deviations: float, level: float) -> None:
    outliers = warmed_up(deviations)
    found = [outliers.is_outlier(level) for _ in range(1000)]
    assert not any(found[-100:])


def test_losses_that_never_varied_have_no_bound() -> None:
    outliers = OutlierFilter(2.0)
    assert not any(outliers.is_outlier(0.0) for _ in range(WARM_UP))
    assert not outliers.is_outlier(1.0)


@given(losses=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=WARM_UP))
def test_the_first_mean_and_deviation_are_exact(losses: list[float]) -> None:
    outliers = OutlierFilter(2.0)
    for loss in losses:
        outliers.is_outlier(loss)
    state = outliers.state()
    assert state["mean"] == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-9)
    assert state["variance"] == pytest.approx(np.var(losses), rel=1e-6, abs=1e-6)


def test_continues_from_its_state() -> None:
    one, other = warmed_up(3.0), OutlierFilter(3.0)
    other.load_state(one.state())
    losses = np.random.default_rng(0).exponential(2.0, 200)
    assert [one.is_outlier(loss) for loss in losses] == [other.is_outlier(loss) for loss in losses]
