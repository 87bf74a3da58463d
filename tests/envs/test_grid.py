from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actorq.envs.grid import Grid

CORRIDOR = "S..G"


def by_policy_iteration(grid: Grid, gamma: float) -> NDArray[np.float64]:
    """Q* another way: policies evaluated by solving linear equations, from a model read off the map again."""
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    cells = {(int(r), int(c)): s for s, (r, c) in enumerate(zip(grid.rows, grid.columns, strict=True))}
    model = np.zeros((grid.count, 4, grid.count))
    for (row, column), state in cells.items():
        for action in range(4):
            for turn, probability in ((0, 1 - grid.slip), (1, grid.slip / 2), (3, grid.slip / 2)):
                down, right = moves[(action + turn) % 4]
                model[state, action, cells.get((row + down, column + right), state)] += probability
    reward = model @ grid.rewards
    alive = ~grid.terminal
    policy = np.zeros(grid.count, int)
    states = np.arange(grid.count)
    while True:
        chosen = model[states, policy] * alive[:, None] * alive[None, :]
        values = np.linalg.solve(np.eye(grid.count) - gamma * chosen, reward[states, policy] * alive)
        q: NDArray[np.float64] = (reward + gamma * model @ values) * alive[:, None]
        better = q.argmax(axis=1)
        if (q[states, better] <= q[states, policy] + 1e-12).all():
            return q
        policy = better


@st.composite
def maps(draw: st.DrawFn) -> str:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    cell = st.sampled_from("...#GP")
    cells = [[draw(cell) for _ in range(columns)] for _ in range(rows)]
    cells[draw(st.integers(0, rows - 1))][draw(st.integers(0, columns - 1))] = "S"
    return "\n".join("".join(row) for row in cells)


@settings(max_examples=60)
@given(map=maps(), slip=st.sampled_from([0.0, 0.2, 1.0]), gamma=st.sampled_from([0.0, 0.5, 0.97]))
def test_value_iteration_finds_what_policy_iteration_finds(map: str, slip: float, gamma: float) -> None:
    grid = Grid(map, slip=slip, step_reward=-0.1)
    np.testing.assert_allclose(grid.value_iteration(gamma), by_policy_iteration(grid, gamma), atol=1e-8)


def test_a_corridor_worked_out_by_hand() -> None:
    q = Grid(CORRIDOR).value_iteration(0.9)
    #       up    right left: towards the goal by right; against a wall one stays
    assert q[0] == pytest.approx([0.729, 0.81, 0.729, 0.729])
    assert q[1] == pytest.approx([0.81, 0.9, 0.81, 0.729])
    assert q[2] == pytest.approx([0.9, 1.0, 0.9, 0.81])
    assert q[3] == pytest.approx([0.0] * 4)


def test_a_slip_beside_a_pit_worked_out_by_hand() -> None:
    # Up and down slip sideways into goal or pit; right slips into walls, and stays.
    q = Grid("PSG", slip=0.5).value_iteration(0.5)
    value = 0.5 / (1 - 0.25)  # right: 1/2 the goal, 1/2 (the two sides) stay
    assert q[1] == pytest.approx([0.25 * value, value, 0.25 * value, -0.5 + 0.25 * value])


@settings(max_examples=40)
@given(map=maps(), slip=st.sampled_from([0.0, 0.3]))
def test_the_model_is_one(map: str, slip: float) -> None:
    grid = Grid(map, slip=slip)
    np.testing.assert_allclose(grid.transitions.sum(axis=2), 1.0)
    assert (grid.transitions >= 0).all()
    assert (grid.transitions[grid.terminal].max(axis=(1, 2)) == 1.0).all()


def test_reachable_states_are_those_one_can_act_in() -> None:
    map = "S.G..\n##P##\n....."
    assert Grid(map).reachable.tolist() == [True, True, *[False] * 9]
    anywhere = Grid(map, start="any")
    assert anywhere.reachable.tolist() == (~anywhere.terminal).tolist()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"map": ""}, "the map is empty"),
        ({"map": "S.x"}, "line 1 of the map has 'x'"),
        ({"map": "S.G\n.."}, "line 2 of the map has 2 cells, the first has 3"),
        ({"map": "..G"}, "has 0 cells 'S'"),
        ({"map": "SSG"}, "has 2 cells 'S'"),
        ({"map": "GP#", "start": "any"}, "no cell to start from"),
        ({"start": "here"}, "got 'here'"),
        ({"slip": 1.5}, "from 0 to 1; got 1.5"),
        ({"slip": float("nan")}, "from 0 to 1; got nan"),
        ({"slip": "often"}, "slip is a probability from 0 to 1; got 'often'"),
        ({"slip": True}, "slip is a probability from 0 to 1; got True"),
        ({"map": 3}, "map is a text, a row of cells per line, for example 'S..G'; got 3"),
        ({"step_reward": "abc"}, "step_reward is a finite number, for example 0.5; got 'abc'"),
        ({"goal_reward": True}, "goal_reward is a finite number, for example 0.5; got True"),
        ({"pit_reward": float("nan")}, "pit_reward is a finite number, for example 0.5; got nan"),
        ({"pit_reward": 10**400}, "pit_reward is a finite number"),
        ({"step_rewrd": 1.0}, "no option 'step_rewrd'; there are map, slip, start, step_reward"),
    ],
)
def test_maps_and_settings_that_cannot_be(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        Grid(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("gamma", [1.0, -0.1, float("nan")])
def test_value_iteration_refuses_what_does_not_converge(gamma: float) -> None:
    with pytest.raises(ValueError, match="0 <= gamma < 1"):
        Grid().value_iteration(gamma)


def test_the_map_is_drawn_with_values_and_greedy_arrows() -> None:
    grid = Grid("S.#\nP.G")
    assert grid.render_values(grid.value_iteration(0.9)) == "\n".join(
        [
            "+---------+---------+---------+",
            "|→    0.81|↓    0.90|#########|",
            "+---------+---------+---------+",
            "|   pit   |→    1.00|   goal  |",
            "+---------+---------+---------+",
        ]
    )
    assert "↑→↓← 0.00" in grid.render_values(np.zeros((grid.count, 4)))


def test_the_widest_value_makes_the_columns() -> None:
    grid = Grid("S.P", pit_reward=-10.58, step_reward=-10.58)
    values = np.full((grid.count, 4), -10.58)
    values[0, 1], values[2] = 9.5, -12345.0  # what is said of the pit isn't drawn
    assert grid.render_values(values) == "\n".join(
        [
            "+----------+----------+----------+",
            "|→     9.50|↑→↓←-10.58|   pit    |",
            "+----------+----------+----------+",
        ]
    )
