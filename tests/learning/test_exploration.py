"""Epsilon schedules, the ladder, and epsilon-greedy choice."""

import msgspec
import numpy as np
import pytest

from actorq.learning.exploration import Epsilon, LinearEpsilon, ape_x_ladder, epsilon_at, epsilon_greedy


def test_a_line_ends_and_stays() -> None:
    line = LinearEpsilon(start=1.0, end=0.2, env_steps=100)
    assert [epsilon_at(line, step) for step in (0, 50, 100, 10_000)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert epsilon_at(0.3, 10_000) == 0.3


def test_a_setting_is_a_number_or_a_line() -> None:
    assert msgspec.convert(0.1, Epsilon) == 0.1
    assert msgspec.convert({"env_steps": 5}, Epsilon) == LinearEpsilon(env_steps=5)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(1.1, Epsilon)


def test_the_ladder_is_the_papers() -> None:
    ladder = ape_x_ladder(8)
    assert ladder == pytest.approx([0.4 ** (1 + 7 * i / 7) for i in range(8)])
    assert ladder[0] == pytest.approx(0.4)
    assert ladder[-1] == pytest.approx(0.4**8)


def test_a_lone_explorer_gets_the_base() -> None:
    assert ape_x_ladder(1) == pytest.approx([0.4])


@pytest.mark.parametrize(
    "settings", [{"explorers": 0}, {"explorers": 2, "base": 1.5}, {"explorers": 2, "alpha": -1}]
)
def test_a_ladder_without_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="epsilon ladder"):
        ape_x_ladder(**settings)  # type: ignore[arg-type]


def test_epsilon_0_is_greedy_and_takes_the_first_of_equals() -> None:
    q_values = np.array([[0.0, 2.0, 1.0], [3.0, 3.0, 3.0]])
    actions = epsilon_greedy(q_values, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(actions, [1, 0])
    assert actions.dtype == np.int64


def test_each_row_has_its_own_epsilon_and_exploring_is_uniform() -> None:
    generator = np.random.default_rng(0)
    rows, epsilon = 40_000, 0.5
    q_values = np.tile([0.0, 0.0, 1.0, 0.0], (rows, 1))
    epsilons = np.where(np.arange(rows) % 2 == 0, epsilon, 0.0)
    actions = epsilon_greedy(q_values, epsilons, generator)
    assert (actions[1::2] == 2).all()
    shares = np.bincount(actions[0::2], minlength=4) / (rows // 2)
    np.testing.assert_allclose(shares, [0.125, 0.125, 0.625, 0.125], atol=0.012)  # five standard deviations


def test_the_generator_is_drawn_from_alike_whatever_the_values() -> None:
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    epsilon_greedy(np.zeros((5, 3)), 0.0, first)
    epsilon_greedy(np.random.default_rng(2).normal(size=(5, 3)), 1.0, second)
    assert first.bit_generator.state == second.bit_generator.state
