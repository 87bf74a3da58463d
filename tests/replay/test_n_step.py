"""n-step returns against a naive twin: one window at a time, one step at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from actorq.replay.chunk import NStep, n_step


def naive(rewards: np.ndarray, discounts: np.ndarray, ends: np.ndarray, n: int) -> NStep:
    steps, environments = rewards.shape
    answer = NStep(
        np.zeros((steps, environments), np.float32),
        np.zeros((steps, environments), np.float32),
        np.zeros((steps, environments), np.int32),
        np.zeros((steps, environments), np.bool_),
    )
    for e in range(environments):
        for t in range(steps):
            total, product, length = 0.0, 1.0, 0
            complete = False
            for k in range(t, min(t + n, steps)):
                total += product * rewards[k, e]
                product *= discounts[k, e]
                length += 1
                if ends[k, e] or length == n:
                    complete = True
                    break
            for array, value in zip(answer, (total, product, length, complete), strict=True):
                array[t, e] = value
    return answer


@given(st.data(), st.integers(0, 12), st.integers(1, 3), st.integers(1, 6), st.floats(0.0, 1.0))
def test_agrees_with_one_window_at_a_time(
    data: st.DataObject, steps: int, environments: int, n: int, gamma: float
) -> None:
    shape = (steps, environments)
    rewards = data.draw(arrays(np.float64, shape, elements=st.floats(-100.0, 100.0)))
    ends = data.draw(arrays(np.bool_, shape))
    terminated = ends & data.draw(arrays(np.bool_, shape))
    discounts = np.where(terminated, 0.0, gamma)
    found, expected = n_step(rewards, discounts, ends, n), naive(rewards, discounts, ends, n)
    np.testing.assert_allclose(found.returns, expected.returns, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.discounts, expected.discounts, rtol=1e-6)
    np.testing.assert_array_equal(found.length, expected.length)
    np.testing.assert_array_equal(found.complete, expected.complete)


def test_termination_differs_from_truncation() -> None:
    rewards = np.array([[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]])
    discounts = np.array([[0.5, 0.5], [0.0, 0.5], [0.5, 0.5]])  # the first environment terminates at step 1,
    ends = np.array([[False, False], [True, True], [False, False]])  # the second is truncated there
    found = n_step(rewards, discounts, ends, 3)
    np.testing.assert_array_equal(found.returns, [[6.0, 6.0], [10.0, 10.0], [100.0, 100.0]])
    np.testing.assert_array_equal(found.discounts, [[0.0, 0.25], [0.0, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(found.length, [[2, 2], [1, 1], [1, 1]])
    np.testing.assert_array_equal(found.complete, [[True, True], [True, True], [False, False]])


def test_what_lies_behind_an_end_is_not_touched() -> None:
    found = n_step(np.array([[1.0], [np.nan]]), np.array([[0.0], [0.9]]), np.array([[True], [False]]), 2)
    assert found.returns[0, 0] == 1.0


def test_dtypes() -> None:
    found = n_step(np.ones((4, 2), np.float32), np.ones((4, 2)), np.zeros((4, 2), np.bool_), 2)
    assert [array.dtype for array in found] == [np.float32, np.float32, np.int32, np.bool_]


def test_wrong_arguments_are_refused() -> None:
    block = np.zeros((3, 2))
    with pytest.raises(ValueError, match="n = 0"):
        n_step(block, block, block.astype(bool), 0)
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        n_step(block, block, np.zeros((3, 1), np.bool_), 1)
    with pytest.raises(ValueError, match=r"\[T, E\]"):
        n_step(block[0], block[0], block[0].astype(bool), 1)
