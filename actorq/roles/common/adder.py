"""Adder: assembles an explorer's environment steps into chunks of n-step transitions for replay."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.envs.environments import Step
from actorq.envs.spaces import Spaces
from actorq.learning.agent import Agent
from actorq.replay.chunk import Chunk, n_step

Values = NDArray[np.floating[Any]]
RolloutSteps = Generator[NDArray[Any], NDArray[Any], Chunk]
"""Yields observations [B, *observation_shape], is sent their Q-values [B, actions], and returns a chunk.

The yielded array is overwritten when the generator is resumed: copy it to keep it.
"""


def answered(questions: RolloutSteps, q_values: Callable[[NDArray[Any]], Values]) -> Chunk:
    """The chunk of `questions`, with each yielded observation evaluated by `q_values` at once."""
    try:
        observations = next(questions)
        while True:
            observations = questions.send(q_values(observations))
    except StopIteration as end:
        chunk: Chunk = end.value
        return chunk


class NStepAdder:
    """Collects the steps of E environments, and makes one `Chunk` of every `length` of them.

    Steps are kept in a block of `length` + `n_step` rows, allocated once. A full block gives the transitions
    that begin in its first `length` rows: their windows are complete or ended by an episode's end. The last
    `n_step` rows are carried over to the next block, so that every step becomes one transition, once. One row
    more than the n - 1 that the returns need: an open window's first priority takes Q(s_{t+n}) from the
    values computed for acting there.

    Frames are kept once per chunk: a chunk of T steps has (T + n + stack - 1) E of them, and a last
    observation for each end whose environment restarted at once. Where stacks reach beyond the first frame of
    an episode they repeat it (as `FrameStack` does). No window and no stack passes an episode's end.

    There is no state to save: environments begin new episodes after a restart, and the adder is restarted
    with them (`start`).

    Priorities are the algorithm's first ones (`Algorithm.first_priorities`).
    """

    def __init__(self, environments: int, spaces: Spaces, *, stack: int, agent: Agent, length: int) -> None:
        if length < 2:  # in a single step all environments might only reset themselves
            raise ValueError(f"a chunk takes at least 2 steps of each environment, got {length}")
        self._n, self._gamma, self._length, self._stack = agent.n_step, agent.gamma, length, stack
        self._algorithm = agent.make_algorithm()
        self._history = stack - 1  # rows of frames before the first step's
        self._frame_shape, self._dtype, self._environments = spaces.frame_shape, spaces.dtype, environments
        self._row = 0
        steps = (length + self._n, environments)
        self._actions = np.zeros(steps, np.int64)
        self._rewards = np.zeros(steps, np.float32)
        self._q = np.zeros((*steps, spaces.actions), np.float32)
        self._terminated = np.zeros(steps, np.bool_)
        self._truncated = np.zeros(steps, np.bool_)
        self._valid = np.ones(steps, np.bool_)
        # Rows of frames: the history, one per step, and the one to act on next.
        self._frame_rows = self._history + length + self._n + 1
        self._starts = np.zeros((self._frame_rows, environments), np.bool_)
        self._numbers = np.arange(self._frame_rows * environments, dtype=np.int32).reshape(-1, environments)
        self._last: list[tuple[int, NDArray[np.intp], NDArray[Any]]] = []  # (row, environments, last frames)
        self._new_frames()

    def start(self, frames: NDArray[Any]) -> None:
        """Begin new episodes with their first `frames` [E, *frame_shape]; collected steps are dropped."""
        self._row = 0
        self._last = []
        self._frame_grid[: self._history + 1] = frames
        self._starts[:] = False
        self._starts[self._history] = True
        self._plain(0)

    def record(self, actions: NDArray[Any], q: Values, step: Step) -> bool:
        """Add one step: `actions` [E], the Q-values [E, actions] of the observations acted on, and the
        result.

        Everything is copied, and nothing computed: `flush` computes for the whole block at once. Returns True
        when the block is full: call `flush` before the next step.
        """
        row = self._row
        self._frame_grid[self._history + row + 1] = step.observations
        self._actions[row] = actions
        self._rewards[row] = step.rewards
        self._q[row] = q
        if step.boundary:
            self._record_boundary(row, step)
        self._row = row + 1
        return self._row == len(self._actions)

    def flush(self) -> RolloutSteps:
        """The chunk of a full block, with new arrays; the open windows are carried over.

        It asks for Q-values only of last observations of truncated episodes, on which no action was taken,
        all at once. Raises RuntimeError if the block isn't full.
        """
        if self._row != len(self._actions):
            raise RuntimeError(
                f"the block holds {self._row} of {len(self._actions)} steps; flush it when full"
            )
        gammas = np.where(self._terminated, 0.0, self._gamma)
        windows = n_step(self._rewards, gammas, self._terminated | self._truncated, self._n)
        # Steps are numbered row by row: the first step of each transition, and the last step of its window.
        begin = np.flatnonzero(self._valid[: self._length])
        end = begin + (windows.length.take(begin) - 1) * self._environments
        frames, next_frame = self._give_frames()
        stacks, next_stacks = self._stacks(next_frame)
        after = self._values_after()
        cut = self._truncated & ~self._terminated
        cut[-1] = False
        if np.count_nonzero(cut):
            stacked = next_stacks[cut.ravel()]
            q_values = yield frames[stacked[:, 0] if self._stack == 1 else stacked]
            after[cut] = q_values.max(axis=1)
        actions = self._actions.take(begin)
        returns, discounts = windows.returns.take(begin), windows.discounts.take(begin)
        chosen = self._q.take(begin * self._q.shape[2] + actions)
        chunk = Chunk(
            frames=frames,
            index=stacks.take(begin, axis=0),
            next_index=next_stacks.take(end, axis=0),
            actions=actions,
            returns=returns,
            discounts=discounts,
            priorities=self._algorithm.first_priorities(chosen, returns, discounts, after.take(end)),
        )
        self._carry_over()
        return chunk

    def _record_boundary(self, row: int, step: Step) -> None:
        self._terminated[row] = step.terminated
        self._truncated[row] = step.truncated
        self._valid[row] = step.valid
        self._starts[self._history + row + 1] = step.starts
        # The same array means that no episode began within the step: the next row's frame is the last one.
        if step.next_observations is not step.observations:
            which = np.flatnonzero(step.terminated | step.truncated)
            self._last.append((row, which, step.next_observations[which]))

    def _give_frames(self) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """The block's frames, followed by the last ones of episodes; and the row of each step's next frame,
        [rows, E].

        The returned array owns its memory and is no longer used here. The frame to act on next is not in it.
        """
        frames, grid = self._frames, self._frame_grid
        self._new_frames()
        self._frame_grid[: self._history + self._n + 1] = grid[self._length :]
        del grid
        kept = (self._frame_rows - 1) * self._environments
        total = kept + sum(len(which) for _, which, _ in self._last)
        # Nothing else refers to the memory, so it may be resized in place, instead of copied.
        frames.resize((total, *self._frame_shape), refcheck=False)
        next_frame = self._numbers[self._history + 1 :].copy()
        position = kept
        for row, which, last in self._last:
            frames[position : position + len(which)] = last
            next_frame[row, which] = np.arange(position, position + len(which))
            position += len(which)
        # The last row's next frame is not included; only windows of the next block reach it.
        return frames, next_frame

    def _stacks(self, next_frame: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows of the frames that each step acted on, and of those that it led to: [steps, stack]."""
        acted_on = self._numbers[self._history : -1]
        if self._stack == 1:
            return acted_on.reshape(-1, 1), next_frame.reshape(-1, 1)
        first = np.maximum.accumulate(np.where(self._starts, self._numbers, 0), axis=0)[self._history : -1]
        # The first frame is repeated for those before it. Where an episode began before the block, row 0 is
        # not its first frame, but no stack reaches beyond it.
        age = np.arange(self._stack - 1, -1, -1, dtype=np.int32) * np.int32(self._environments)
        stacks = np.maximum(acted_on[:, :, None] - age, first[:, :, None]).reshape(-1, self._stack)
        return stacks, np.concatenate([stacks[:, 1:], next_frame.reshape(-1, 1)], axis=1)

    def _values_after(self) -> NDArray[np.float32]:
        """max_a Q of the observations that each step led to [rows, E]; undefined where no action was taken on
        them.
        """
        after = np.zeros_like(self._rewards)  # no window of this chunk ends with the last row
        best = after[:-1]
        best[:] = self._q[1:, :, 0]
        for action in range(1, self._q.shape[2]):  # far faster than max() over so short an axis
            np.maximum(best, self._q[1:, :, action], out=best)
        return after

    def _carry_over(self) -> None:
        """Move the last n rows to the front."""
        n, length = self._n, self._length
        for column in (self._actions, self._rewards, self._terminated, self._truncated, self._valid):
            column[:n] = column[length:]
        self._q[:n] = self._q[length:]
        kept = self._history + n + 1
        self._starts[:kept] = self._starts[length:]
        self._starts[kept:] = False
        self._plain(n)
        self._last = [(row - length, which, last) for row, which, last in self._last if row >= length]
        self._row = n

    def _plain(self, row: int) -> None:
        """Mark the steps from `row` on as neither the first nor the last of an episode."""
        self._terminated[row:] = False
        self._truncated[row:] = False
        self._valid[row:] = True

    def _new_frames(self) -> None:
        self._frames = np.empty((self._frame_rows * self._environments, *self._frame_shape), self._dtype)
        self._frame_grid = self._frames.reshape(self._frame_rows, self._environments, *self._frame_shape)
