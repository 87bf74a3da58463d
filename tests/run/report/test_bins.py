"""Binning: the few bins of a chart hold every value of a distribution, with round edges."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors.histogram import FINEST, LARGEST, Distribution, Histogram
from actorq.run.report.bins import Bin, bins_of

values = st.floats(-LARGEST, LARGEST) | st.floats(0, 100) | st.integers(0, 10**6).map(float)


def distribution(observed: list[float]) -> Distribution:
    histogram = Histogram()
    histogram.add(np.array(observed))
    return histogram.distribution()


@given(
    st.lists(values, min_size=1)
    | st.lists(st.integers(-50, 2**51).map(float), min_size=1)
    | st.lists(st.floats(0, LARGEST).map(abs), min_size=1)
    | st.floats(-1e6, 1e6).map(lambda value: [value, float(np.nextafter(value, 1e7))]),
    st.integers(10, 60),
)
def test_every_value_is_in_its_bin(observed: list[float], most: int) -> None:
    found = bins_of(distribution(observed), most)
    bins = [each for each in found.bins if each.high != 0 or not found.logarithmic]
    assert len(bins) <= most
    assert sum(each.count for each in found.bins) == len(observed)
    rounding = max(map(abs, observed)) / FINEST
    assert found.bins[0].low <= min(observed) + rounding
    assert found.bins[-1].high >= max(observed) - rounding
    assert all(before.high == after.low for before, after in pairwise(bins))
    assert all(each.low < each.high for each in bins)
    for each in bins:
        inside = sum(each.low <= value < each.high for value in observed)
        near = sum(
            abs(value - side) <= 2 * abs(side) / FINEST + 1e-12 * rounding
            for value in observed
            for side in (each.low, each.high)
        )
        assert abs(each.count - inside) <= near, "only at an edge it may belong to the next bin"


def test_few_whole_numbers_have_a_bin_each() -> None:
    found = bins_of(distribution([0, 0, 0, 1, 3]), 40)
    assert found.bins == (Bin(-0.5, 0.5, 3), Bin(0.5, 1.5, 1), Bin(1.5, 2.5, 0), Bin(2.5, 3.5, 1))
    assert found.whole
    assert not found.logarithmic


def test_many_whole_numbers_have_round_bins() -> None:
    found = bins_of(distribution([float(value) for value in range(200, 400)]), 30)
    assert {each.count for each in found.bins} == {10}
    assert found.bins[0] == Bin(199.5, 209.5, 10)


def test_what_is_far_apart_has_a_logarithmic_scale_and_zeros_a_bin_of_their_own() -> None:
    found = bins_of(distribution([0.0, 0.0, 0.03, 1000.0]), 12)
    assert found.logarithmic
    assert found.bins[0] == Bin(0.0, 0.0, 2)
    assert [each.high / each.low for each in found.bins[1:]] == pytest.approx([10**0.5] * 11)


def test_whole_numbers_that_are_far_apart_are_counted_by_powers_of_two() -> None:
    found = bins_of(distribution([0, 1, 2, 3, 5, 2000]), 12)
    assert found.logarithmic
    assert found.bins[:4] == (Bin(0.0, 0.0, 1), Bin(1.0, 2.0, 1), Bin(2.0, 4.0, 2), Bin(4.0, 8.0, 1))
    assert found.bins[-1] == Bin(1024.0, 2048.0, 1)


def test_nothing_has_no_bins() -> None:
    assert bins_of(Distribution(not_finite=3), 40).bins == ()
