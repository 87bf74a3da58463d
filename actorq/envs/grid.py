"""Grid worlds as exact models: the transition probabilities of a drawn map, and its true Q-values.

Plain numpy; `actorq.envs.gridworld` makes environments of them.
"""

from __future__ import annotations

import sys
from typing import Never

import numpy as np
from numpy.typing import NDArray

# Actions in clockwise order, so that a slip to the side is the adjacent one in this list.
ACTIONS = ("up", "right", "down", "left")
ARROWS = "↑→↓←"
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

WALL, OPEN, START, GOAL, PIT = "#.SGP"

DEFAULT_MAP = """
S...
.#.P
....
P..G
"""


class Grid:
    """A map of walls `#`, open cells `.`, at most one start `S`, goals `G` and pits `P`; a row per line.

    States are the cells that are not walls, numbered row by row; the map is surrounded by wall. An action
    moves to the next cell, or nowhere if that is a wall; with probability `slip` it goes to one of its two
    sides instead, each equally likely. Entering a goal gives `goal_reward` and ends the episode, entering a
    pit gives `pit_reward` and ends it, any other step gives `step_reward`. `start="any"` begins episodes in
    any cell that doesn't end them, all equally likely (exploring starts: Sutton & Barto 2018, section 5.3),
    and `start="S"` in that cell.

    Raises ValueError, naming the line and what is allowed, for an invalid map or setting.
    """

    def __init__(
        self,
        map: str = DEFAULT_MAP,
        *,
        slip: float = 0.0,
        start: str = "S",
        step_reward: float = 0.0,
        goal_reward: float = 1.0,
        pit_reward: float = -1.0,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise ValueError(f"there is no option {next(iter(unknown))!r}; there are {', '.join(_OPTIONS)}")
        if not (_is_number(slip) and 0.0 <= slip <= 1.0):
            raise ValueError(f"slip is a probability from 0 to 1; got {slip!r}")
        rewards = {"step_reward": step_reward, "goal_reward": goal_reward, "pit_reward": pit_reward}
        for option, reward in rewards.items():
            if not _is_number(reward):
                raise ValueError(f"{option} is a finite number, for example 0.5; got {reward!r}")
        self.cells = _read(map)
        self.slip = slip
        rows, columns = np.nonzero(self.cells != WALL)
        kinds = self.cells[rows, columns]
        self.count = len(rows)
        self.rows, self.columns = rows, columns  # [S] row and column of each state
        self.terminal: NDArray[np.bool_] = (kinds == GOAL) | (kinds == PIT)
        self.starts = _starts(start, kinds, self.terminal)
        # The reward for entering each state [S], and the state that each move leads to [S, 4].
        self.rewards = np.select([kinds == GOAL, kinds == PIT], [goal_reward, pit_reward], step_reward)
        self.moves = self._moves()
        self.transitions = self._transitions()
        self.reachable = self._reachable()

    def value_iteration(self, gamma: float, tolerance: float = 1e-10) -> NDArray[np.float64]:
        """The exact Q* [S, 4]; 0 in terminal states.

        Repeats Q <- P (r + gamma max Q) until Q is within `tolerance` of Q* (Sutton & Barto 2018, equation
        4.10 for action values; the error is at most gamma / (1 - gamma) times the last change). Raises
        ValueError unless 0 <= gamma < 1.
        """
        if not 0.0 <= gamma < 1.0:
            raise ValueError(f"value iteration converges for 0 <= gamma < 1; got {gamma}")
        q = np.zeros((self.count, len(ACTIONS)))
        while True:
            better: NDArray[np.float64] = self.transitions @ (self.rewards + gamma * q.max(axis=1))
            better[self.terminal] = 0.0
            change = float(np.abs(better - q).max())
            q = better
            if gamma * change <= tolerance * (1.0 - gamma):
                return q

    def render_values(self, q: NDArray[np.floating]) -> str:
        """The map with max_a q [S, 4] of each cell, and an arrow for each greedy action (ties: 1e-6)."""
        values = q.max(axis=1)
        texts = [f"{value:5.2f}" for value in values]
        digits = max([5, *(len(texts[state]) for state in np.flatnonzero(~self.terminal))])
        width = len(ARROWS) + digits
        drawn = {WALL: "#" * width, GOAL: "goal".center(width), PIT: "pit".center(width)}
        state = self._state_at()
        lines = []
        for row, kinds in enumerate(self.cells):
            line = []
            for column, kind in enumerate(kinds):
                if kind in drawn:
                    line.append(drawn[kind])
                    continue
                here = state[row, column]
                least = values[here] - 1e-6
                greedy = [a for a, value in zip(ARROWS, q[here], strict=True) if value >= least]
                line.append(f"{''.join(greedy):{len(ARROWS)}}{texts[here]:>{digits}}")
            lines.append("|" + "|".join(line) + "|")
        link_schema = "+" + "+".join(["-" * width] * self.cells.shape[1]) + "+"
        return "\n".join([link_schema, *(text for line in lines for text in (line, link_schema))])

    def _state_at(self) -> NDArray[np.int64]:
        state = np.full(self.cells.shape, -1)
        state[self.rows, self.columns] = np.arange(self.count)
        return state

    def _moves(self) -> NDArray[np.int64]:
        """The state that each action leads to, without slipping [S, 4]."""
        state = np.pad(self._state_at(), 1, constant_values=-1)
        here = np.arange(self.count)
        leads = [state[self.rows + 1 + down, self.columns + 1 + right] for down, right in _MOVES]
        return np.stack([np.where(to < 0, here, to) for to in leads], axis=1)

    def _transitions(self) -> NDArray[np.float64]:
        """P(s' | s, a) [S, 4, S]; a terminal state leads to itself."""
        probabilities = np.zeros((self.count, len(ACTIONS), self.count))
        states = np.arange(self.count)
        for action in range(len(ACTIONS)):
            for side, probability in ((0, 1.0 - self.slip), (1, self.slip / 2), (-1, self.slip / 2)):
                to = self.moves[:, (action + side) % len(ACTIONS)]
                probabilities[states, action, to] += probability  # one target per state: nothing is lost
        probabilities[self.terminal] = 0.0
        probabilities[self.terminal, :, self.terminal] = 1.0
        return probabilities

    def _reachable(self) -> NDArray[np.bool_]:
        """[S] the states in which an action can be chosen: reachable from a start, and not terminal."""
        reached = np.zeros(self.count, np.bool_)
        reached[self.starts] = True
        leads = self.transitions.max(axis=1) > 0
        while True:
            more = reached | leads[reached & ~self.terminal].any(axis=0)
            if (more == reached).all():
                return reached & ~self.terminal
            reached = more


_OPTIONS = ("map", *(Grid.__init__.__kwdefaults__ or ()))


def _is_number(value: object) -> bool:
    """Whether it is a finite number and not a bool, which Python counts among the integers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # false for NaN, too


def _read(text: str) -> NDArray[np.str_]:
    if not isinstance(text, str):
        raise ValueError(f"map is a text, a row of cells per line, for example 'S..G'; got {text!r}")
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines or not lines[0]:
        raise ValueError("the map is empty; draw a row of cells per line, for example 'S..G'")
    for number, line in enumerate(lines, 1):
        unknown = sorted(set(line) - {WALL, OPEN, START, GOAL, PIT})
        if unknown:
            raise ValueError(
                f"line {number} of the map has {unknown[0]!r}; cells are '#' wall, '.' open, 'S' start, "
                "'G' goal, 'P' pit"
            )
        if len(line) != len(lines[0]):
            raise ValueError(f"line {number} of the map has {len(line)} cells, the first has {len(lines[0])}")
    return np.array([list(line) for line in lines])


def _starts(start: str, kinds: NDArray[np.str_], terminal: NDArray[np.bool_]) -> NDArray[np.intp]:
    if start == "any":
        starts = np.flatnonzero(~terminal)
        if not len(starts):
            raise ValueError("the map has no cell to start from: every cell is a wall or ends the episode")
        return starts
    if start != "S":
        raise ValueError(f'start is "S" (the cell drawn so) or "any"; got {start!r}')
    starts = np.flatnonzero(kinds == START)
    if len(starts) != 1:
        raise ValueError(
            f'the map has {len(starts)} cells \'S\'; start = "S" needs one (or set start = "any")'
        )
    return starts
