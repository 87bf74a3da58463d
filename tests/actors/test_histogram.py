"""Histogram: values are counted in bins of bounded width, and histograms can be added."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actorq.actors.histogram import (
    EXACT,
    FINEST,
    LARGEST,
    SMALLEST,
    Distribution,
    Histogram,
    edge,
)
from actorq.actors.supervision import control_messages as commands
from actorq.launchers.control_frames import PREFIX_BYTES, Decoder, FrameError, encode

whole = st.integers(-1023, 1023).map(float)
finite = (
    st.floats(-LARGEST, LARGEST)
    | st.floats(-10, 10)
    | whole
    | st.sampled_from([0.0, -0.0, 5e-324, SMALLEST, SMALLEST / 2])
)
anything = finite | st.sampled_from([math.nan, math.inf, -math.inf, 2 * LARGEST])


def counted(values: list[float]) -> Distribution:
    histogram = Histogram()
    histogram.add(np.array(values))
    return histogram.distribution()


def naive_quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share doesn't exceed."""
    return next(value for value in sorted(values) if sum(x <= value for x in values) >= share * len(values))


@given(st.lists(finite, min_size=1), st.floats(0.001, 1))
def test_quantiles_are_within_a_bins_width(values: list[float], share: float) -> None:
    found, exact = counted(values).quantile(share), naive_quantile(values, share)
    if exact == int(exact) and abs(exact) <= EXACT:
        assert found == exact
    else:
        assert abs(found - exact) <= abs(exact) / FINEST + SMALLEST
    assert min(values) - SMALLEST <= found <= max(values) + SMALLEST


@given(st.lists(st.lists(anything)))
def test_merged_parts_are_the_whole(parts: list[list[float]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(counted(part))
    found, expected = merged.distribution(), counted([value for part in parts for value in part])
    assert msgspec.structs.replace(found, total=0) == msgspec.structs.replace(expected, total=0)
    assert found.total == pytest.approx(expected.total, rel=1e-9, abs=1e-9 * LARGEST)


@given(st.lists(anything, max_size=3000), st.integers(1, 1500))
def test_one_by_one_and_in_arrays_of_any_size_are_the_same(values: list[float], size: int) -> None:
    single, many = Histogram(), Histogram()
    for value in values:
        single.add(value)
    for start in range(0, len(values), size):
        many.add(np.array(values[start : start + size]))
    assert single.distribution().cells == many.distribution().cells == counted(values).cells


@given(st.lists(anything))
def test_every_value_is_somewhere(values: list[float]) -> None:
    found = counted(values)
    assert found.count + found.not_finite == len(values)
    placed = [value for value in values if abs(value) <= LARGEST]
    for cell, count in found.cells.items():
        near, far = abs(edge(cell)), edge(abs(cell) + 1)
        if cell == 0:
            far = SMALLEST
        alike = [value for value in placed if near <= abs(value) < far and (value * cell > 0 or cell == 0)]
        assert len(alike) == count
        assert far - near <= max(near / FINEST, SMALLEST)


def test_both_zeros_are_zero_and_so_is_what_is_as_good_as_zero() -> None:
    found = counted([0.0, -0.0, 5e-324, -SMALLEST / 2])
    assert (found.cells, found.smallest, found.largest) == ({0: 4}, 0.0, 0.0)
    assert edge(0) == 0.0


def test_what_has_no_bin_is_counted_apart() -> None:
    found = counted([math.nan, math.inf, -math.inf, 1e200, 1.0])
    assert (found.count, found.not_finite, found.total, found.largest) == (1, 4, 1.0, 1.0)
    nothing = counted([math.nan])
    assert (nothing.count, nothing.quantile(0.5), nothing.largest) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.arange(6, dtype=np.float32)[::-1],
        np.array([0, 1, 2, 3, 4, 5], np.uint8),
    ],
)
def test_arrays_of_any_shape_and_dtype(values: NDArray[np.generic]) -> None:
    histogram = Histogram()
    histogram.add(values)
    assert histogram.distribution() == counted([0, 1, 2, 3, 4, 5])


def test_an_array_may_change_when_it_has_been_added() -> None:
    values, histogram = np.ones(3), Histogram()
    histogram.add(values)
    values[:] = 7
    assert histogram.distribution().largest == 1


def test_taking_begins_at_nothing() -> None:
    histogram = Histogram()
    histogram.add(3)
    assert histogram.take().count == 1
    assert histogram.distribution() == Distribution()


def test_its_size_is_bounded() -> None:
    assert len(counted([float(value) for value in range(0, 2**20, 7)]).cells) <= 1024 + 10 * 512


@given(st.lists(anything))
def test_it_is_kept_and_sent_as_it_is(values: list[float]) -> None:
    found = counted(values)
    assert msgspec.convert(msgspec.to_builtins(found, str_keys=True), Distribution, str_keys=True) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Distribution) == found
    assert sent(commands.Observed("a", "age", found)) == commands.Observed("a", "age", found)


def sent(node_event: commands.NodeEvents) -> commands.NodeEvents:
    frame = b"".join(encode(node_event, 2**20))
    decoder = Decoder(commands.NodeEvents)
    assert decoder.open(frame[PREFIX_BYTES:], 0) == []
    received: commands.NodeEvents = decoder.message()
    return received


@pytest.mark.parametrize("cells", [{2**40: 1}, {-(2**40): 1}, {3: 0}, {3: -1}])
def test_bins_that_there_are_not_are_refused_from_another_process(cells: dict[int, int]) -> None:
    with pytest.raises(FrameError, match="Expected `int`"):
        sent(commands.Observed("a", "age", Distribution(cells)))
