"""GridWorld, registered as actorq/GridWorld-v0: a drawn map to walk through, whose exact values are known."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from .grid import ACTIONS, GOAL, PIT, WALL, Grid

Rows = NDArray[np.float32]
Info = dict[str, Any]

_CELL_PIXELS = 24
_COLOURS = {WALL: (60, 60, 60), GOAL: (90, 180, 90), PIT: (200, 80, 80)}
_GROUND, _WALKER = (235, 235, 235), (60, 90, 200)


class GridWorld(gymnasium.Env[Rows, Any]):
    """One walker on a `Grid`; options are the grid's. Observations are one-hot rows float32 [S].

    Episodes end in goals and pits only; gymnasium's TimeLimit bounds their length.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.grid = Grid(**options)
        self.render_mode = render_mode
        self.observation_space = Box(0.0, 1.0, (self.grid.count,), np.float32)
        self.action_space = Discrete(len(ACTIONS))
        self._one_hot = np.eye(self.grid.count, dtype=np.float32)
        self._state = int(self.grid.starts[0])

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        super().reset(seed=seed)
        self._state = int(self.np_random.choice(self.grid.starts))
        return self._one_hot[self._state].copy(), {}

    def step(self, action: int) -> tuple[Rows, float, bool, bool, Info]:
        states = _walk(self.grid, np.array([self._state]), np.array([action]), self.np_random)
        self._state = int(states[0])
        reward, terminated = float(self.grid.rewards[self._state]), bool(self.grid.terminal[self._state])
        return self._one_hot[self._state].copy(), reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8]:
        """The map as RGB [height, width, 3]."""
        return _picture(self.grid, self._state)


class GridWorldVector(VectorEnv[Rows, NDArray[np.integer[Any]], NDArray[Any]]):
    """Many walkers on one `Grid`, stepped as arrays; one generator for all of them. Resets in the same step.

    An episode of `max_episode_steps` steps is truncated.
    """

    def __init__(
        self, num_envs: int, max_episode_steps: int = 100, render_mode: str | None = None, **options: Any
    ) -> None:
        self.grid = Grid(**options)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**GridWorld.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(0.0, 1.0, (self.grid.count,), np.float32)
        self.single_action_space = Discrete(len(ACTIONS))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._max_episode_steps = max_episode_steps
        self._one_hot = np.eye(self.grid.count, dtype=np.float32)
        self._states = np.zeros(num_envs, np.int64)
        self._lengths = np.zeros(num_envs, np.int64)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Rows, Info]:
        super().reset(seed=seed)
        self._states = self.np_random.choice(self.grid.starts, self.num_envs)
        self._lengths[:] = 0
        return self._one_hot[self._states], {}

    def step(
        self, actions: NDArray[np.integer[Any]]
    ) -> tuple[Rows, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        grid = self.grid
        states = _walk(grid, self._states, actions, self.np_random)
        self._lengths += 1
        rewards, terminated = grid.rewards[states], grid.terminal[states]
        truncated = self._lengths >= self._max_episode_steps
        infos: Info = {}
        ended = terminated | truncated
        if ended.any():
            infos = {"final_obs": self._one_hot[states], "_final_obs": ended}
            states[ended] = self.np_random.choice(grid.starts, int(ended.sum()))
            self._lengths[ended] = 0
        self._states = states
        return self._one_hot[states], rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """The map with each walker, as RGB [height, width, 3]."""
        return tuple(_picture(self.grid, int(state)) for state in self._states)


def _walk(
    grid: Grid, states: NDArray[np.int64], actions: NDArray[np.integer[Any]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The next states [E]. A deterministic grid draws nothing."""
    if grid.slip:
        draw = rng.random(len(states))
        # Below slip / 2 to one side, up to slip to the other, straight on above.
        side = np.where(draw < grid.slip, np.where(draw < grid.slip / 2, 1, -1), 0)
        actions = (actions + side) % len(ACTIONS)
    after: NDArray[np.int64] = grid.moves[states, actions]
    return after


def _picture(grid: Grid, walker: int) -> NDArray[np.uint8]:
    cells = np.full((*grid.cells.shape, 3), _GROUND, np.uint8)
    for kind, colour in _COLOURS.items():
        cells[grid.cells == kind] = colour
    picture = cells.repeat(_CELL_PIXELS, axis=0).repeat(_CELL_PIXELS, axis=1)
    top, left = grid.rows[walker] * _CELL_PIXELS, grid.columns[walker] * _CELL_PIXELS
    inset = _CELL_PIXELS // 4
    picture[top + inset : top + _CELL_PIXELS - inset, left + inset : left + _CELL_PIXELS - inset] = _WALKER
    return picture
