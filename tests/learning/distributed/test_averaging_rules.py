"""Averaging rules: the result of a synchronization, and which learners synchronize when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actorq.learning.distributed.averaging_rules import Elastic, Mean, distance, make_averaging_rule


def vectors(count: int, size: int = 50, dtype: Any = np.float32) -> list[NDArray[Any]]:
    return list(np.random.default_rng(0).normal(size=(count, size)).astype(dtype))


# What comes of a synchronization.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_is_the_centre_and_everybodys(dtype: Any) -> None:
    center, *arrived = vectors(4, dtype=dtype)
    synchronization = Mean().synchronize(center, arrived)
    np.testing.assert_allclose(synchronization.center, np.mean(arrived, axis=0), rtol=1e-6, atol=1e-7)
    assert synchronization.center.dtype == dtype
    assert all(answer is synchronization.center for answer in synchronization.answers)
    assert synchronization.distances == [distance(vector, synchronization.center) for vector in arrived]


def test_the_mean_of_equals_is_what_they_are() -> None:
    center, vector = vectors(2)
    synchronization = Mean().synchronize(center, [vector] * 3)
    np.testing.assert_array_equal(synchronization.center, vector)
    assert synchronization.distances == [0.0] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_learner_and_centre_move_towards_each_other(dtype: Any) -> None:
    center, vector = vectors(2, dtype=dtype)
    synchronization = Elastic(0.25).synchronize(center, [vector])
    (answer,) = synchronization.answers
    np.testing.assert_allclose(answer, 0.75 * vector + 0.25 * center, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(synchronization.center, 0.75 * center + 0.25 * vector, rtol=1e-5, atol=1e-6)
    assert answer.dtype == synchronization.center.dtype == dtype
    assert synchronization.distances == [distance(vector, center)]


def test_by_default_the_elasticity_goes_by_the_number_of_learners() -> None:
    """beta = 0.9 = p * alpha, as in section 5 of the paper."""
    rule = make_averaging_rule("elastic", None, 3)
    synchronization = rule.synchronize(np.zeros(1), [np.ones(1)])
    assert synchronization.center == pytest.approx(0.3)


def test_distances_are_relative_to_the_centre() -> None:
    center = np.array([3.0, 4.0])
    assert distance(center + np.array([0.0, 1.0]), center) == pytest.approx(0.2)
    assert distance(np.zeros(2), np.zeros(2)) == 0.0


# Who meets when.


def test_all_active_learners_synchronize() -> None:
    rule = Mean()
    rule.learns(0)
    rule.learns(2)
    rule.arrived(2)
    assert rule.next() == ()
    rule.arrived(0)
    assert rule.next() == (0, 2)
    assert rule.next() == ()


def test_no_learner_waits_for_a_dead_one() -> None:
    rule = Mean()
    for learner in range(3):
        rule.learns(learner)
    rule.arrived(0)
    rule.left(1)
    assert rule.next() == ()
    rule.left(2)
    assert rule.next() == (0,)


def test_a_learner_with_a_first_batch_is_waited_for() -> None:
    rule = Mean()
    rule.arrived(0)
    assert rule.next() == (0,)
    rule.learns(1)
    rule.arrived(0)
    assert rule.next() == ()
    assert rule.learning == (0, 1)
    rule.arrived(1)
    assert rule.next() == (0, 1)


def test_elastic_learners_do_not_wait() -> None:
    rule = Elastic(0.5)
    rule.learns(1)
    rule.arrived(2)
    rule.arrived(0)
    assert [rule.next(), rule.next(), rule.next()] == [(2,), (0,), ()], "one by one, as they arrived"


LEARNERS = 3
EVENTS = st.lists(st.tuples(st.sampled_from(["step", "die", "back"]), st.integers(0, LEARNERS - 1)))


@pytest.mark.parametrize("rule", ["mean", "elastic"])
@given(events=EVENTS)
def test_remaining_learners_synchronize_in_any_case(rule: Any, events: list[tuple[str, int]]) -> None:
    """Learners step, die and come back in any order; then all who live step, and nobody is left waiting."""
    made = make_averaging_rule(rule, None, LEARNERS)
    state = ["dead"] * LEARNERS  # dead, learning, or here

    def happen(event: str, learner: int) -> None:
        if event == "die":
            made.left(learner)
            state[learner] = "dead"
        elif event == "back" and state[learner] == "dead":
            made.learns(learner)
            state[learner] = "learning"
        elif event == "step" and state[learner] == "learning":
            made.arrived(learner)
            state[learner] = "here"
        while met := made.next():
            assert all(state[learner] == "here" for learner in met)
            assert rule == "elastic" or "learning" not in state, "somebody was not waited for"
            for learner in met:
                state[learner] = "learning"

    for event, learner in events:
        happen(event, learner)
    for learner in [learner for learner in range(LEARNERS) if state[learner] == "learning"]:
        happen("step", learner)
    assert set(state) <= {"dead", "learning"}
