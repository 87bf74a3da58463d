from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actorq.envs.environments import Step
from actorq.envs.frames import FrameStack
from actorq.envs.spaces import Spaces
from actorq.learning.agent import Agent
from actorq.replay.chunk import Chunk
from actorq.roles.common.adder import NStepAdder, answered

GAMMA = 0.9
ACTIONS = 5
NUMBERS = Spaces((), np.dtype(np.int64), (), ACTIONS)
"""Of environments whose frames are numbers."""
PLAIN, TERMINATED, TRUNCATED, BOTH = range(4)


class Moment(NamedTuple):
    """One environment at one step, as the naive twin remembers it."""

    frame: int
    action: int
    reward: float
    chosen: float
    best: float
    end: int
    last: int | None  # the true last frame, where the episode ended


class Transition(NamedTuple):
    state: tuple[int, ...]
    action: int
    ret: float
    discount: float
    next_state: tuple[int, ...]
    priority: float


def value_of(observations: NDArray[Any]) -> NDArray[np.float64]:
    """A stand-in for max_a Q that depends on every frame of the stack."""
    flat = observations.reshape(len(observations), -1).astype(np.float64)
    return flat @ np.arange(1.0, flat.shape[1] + 1) / 100.0


def q_of(observations: NDArray[Any]) -> NDArray[np.float64]:
    """Q-values of which `value_of` is the largest."""
    return np.stack([value_of(observations) - 1.0, value_of(observations)], axis=1)


def stacked(frames: list[int], stack: int) -> tuple[int, ...]:
    return tuple(([frames[0]] * stack + frames)[-stack:])


def naive_transition(episode: list[Moment], begin: int, stack: int, n: int) -> Transition:
    """The n-step transition from step `begin` of an episode; the obvious way, one step at a time."""
    ret, discount, at = 0.0, 1.0, begin
    for _ in range(n):
        moment = episode[at]
        ret += discount * moment.reward
        discount *= 0.0 if moment.end in (TERMINATED, BOTH) else GAMMA
        at += 1
        if moment.end != PLAIN:
            break
    frames = [m.frame for m in episode]
    state = stacked(frames[: begin + 1], stack)
    last = episode[at - 1].last
    if last is None:
        next_state = stacked(frames[: at + 1], stack)
        value = episode[at].best
    else:
        next_state = stacked([*frames[:at], last], stack)
        value = float(value_of(np.array([next_state]))[0])
    moment = episode[begin]
    return Transition(
        state, moment.action, ret, discount, next_state, abs(ret + discount * value - moment.chosen)
    )


class Scripted:
    """E environments whose ends are given beforehand: every frame is a number of its own.

    `same_step` says whether an ended environment begins anew at once, or only resets itself in the next step.
    """

    def __init__(self, ends: list[list[int]], same_step: bool, seed: int) -> None:
        self.ends, self.same_step = ends, same_step
        self.rng = np.random.default_rng(seed)
        self.count = len(ends[0])
        self.used = 0
        self.current = self.fresh()
        self.resetting = np.zeros(self.count, np.bool_)
        self.episodes: list[list[list[Moment]]] = [[[]] for _ in range(self.count)]
        self.order: list[tuple[int, int, int]] = []  # (environment, episode, step) of each transition

    def fresh(self) -> NDArray[np.int64]:
        self.used += self.count
        return np.arange(self.used - self.count, self.used)

    def step(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float32], Step]:
        actions = self.rng.integers(0, ACTIONS, self.count)
        q = self.rng.normal(size=(self.count, ACTIONS)).astype(np.float32)
        rewards = self.rng.normal(size=self.count).astype(np.float32)
        ends = np.where(self.resetting, PLAIN, self.ends[row])
        valid = ~self.resetting
        rewards[~valid] = 0.0
        ended, after = ends != PLAIN, self.fresh()
        for e in np.flatnonzero(valid).tolist():
            episode = self.episodes[e][-1]
            self.order.append((e, len(self.episodes[e]) - 1, len(episode)))
            last = int(after[e]) if ended[e] else None
            episode.append(
                Moment(int(self.current[e]), int(actions[e]), float(rewards[e]), float(q[e, actions[e]]),
                       float(max(q[e])), int(ends[e]), last)
            )  # fmt: skip
            if ended[e]:
                self.episodes[e].append([])
        observations, starts = after, ~valid
        if self.same_step and ended.any():
            observations, starts = np.where(ended, self.fresh(), after), ended
        self.resetting = ended & (not self.same_step)
        self.current = observations
        terminated = (ends == TERMINATED) | (ends == BOTH)
        truncated = (ends == TRUNCATED) | (ends == BOTH)
        boundary = bool(ended.any() or not valid.all())
        step = Step(observations, after, rewards, terminated, truncated, valid, starts, boundary, None)
        return actions, q, step


def expanded(chunk: Chunk) -> Iterator[Transition]:
    for i in range(len(chunk)):
        yield Transition(
            tuple(chunk.frames[chunk.index[i]].tolist()),
            int(chunk.actions[i]),
            float(chunk.returns[i]),
            float(chunk.discounts[i]),
            tuple(chunk.frames[chunk.next_index[i]].tolist()),
            float(chunk.priorities[i]),
        )


@st.composite
def scripts(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    count = draw(st.integers(1, 3))
    end = st.sampled_from([PLAIN, PLAIN, PLAIN, TERMINATED, TRUNCATED, BOTH])
    row = st.lists(end, min_size=count, max_size=count)
    return draw(st.lists(row, min_size=12, max_size=30)), draw(st.integers(0, 1000))


@settings(max_examples=150)
@given(
    script=scripts(),
    same_step=st.booleans(),
    stack=st.sampled_from([1, 2, 4]),
    n=st.integers(1, 5),
    length=st.integers(2, 7),
)
def test_chunks_hold_what_the_naive_twin_finds(
    script: tuple[list[list[int]], int], same_step: bool, stack: int, n: int, length: int
) -> None:
    ends, seed = script
    scripted = Scripted(ends, same_step, seed)
    trajectory = NStepAdder(
        scripted.count, NUMBERS, stack=stack, agent=Agent(n_step=n, gamma=GAMMA), length=length
    )
    trajectory.start(scripted.current)
    found: list[Transition] = []
    recorded_before: list[int] = []  # how many transitions had been taken before each step
    for row in range(len(ends)):
        recorded_before.append(len(scripted.order))
        if trajectory.record(*scripted.step(row)):
            chunk = answered(trajectory.flush(), q_of)
            chunk.check()
            assert len(np.unique(chunk.frames)) >= len(chunk.frames) - scripted.count * (stack - 1)
            found += expanded(chunk)
    flushes = max(0, (len(ends) - n) // length)
    recorded_before.append(len(scripted.order))
    expected = [
        naive_transition(scripted.episodes[e][k], begin, stack, n)
        for e, k, begin in scripted.order[: recorded_before[flushes * length]]
    ]
    assert len(found) == len(expected)
    for ours, naive in zip(found, expected, strict=True):
        assert (ours.state, ours.action, ours.next_state) == (naive.state, naive.action, naive.next_state)
        assert ours[2:4] == pytest.approx(naive[2:4], abs=1e-5)
        assert ours.priority == pytest.approx(naive.priority, rel=1e-4, abs=1e-4)


def run_plain(
    trajectory: NStepAdder, rows: int, count: int, frame_shape: tuple[int, ...] = ()
) -> list[Chunk]:
    """Steps without any end; frame k of every environment is all k."""
    no, yes = np.zeros(count, np.bool_), np.ones(count, np.bool_)
    zeros = np.zeros(count, np.float32)
    trajectory.start(np.zeros((count, *frame_shape)))
    chunks = []
    for row in range(rows):
        after = np.full((count, *frame_shape), row + 1)
        step = Step(after, after, zeros + 1, no, no, yes, no, False, None)
        if trajectory.record(np.zeros(count), np.zeros((count, ACTIONS)), step):
            chunks.append(answered(trajectory.flush(), q_of))
    return chunks


def test_a_chunk_keeps_each_frame_once_and_owns_its_arrays() -> None:
    trajectory = NStepAdder(
        16,
        Spaces((8, 8), np.dtype(np.uint8), (4, 8, 8), ACTIONS),
        stack=4,
        agent=Agent(n_step=3, gamma=GAMMA),
        length=64,
    )
    chunks = run_plain(trajectory, 64 * 3 + 3, 16, (8, 8))
    assert [len(chunk) for chunk in chunks] == [64 * 16] * 3
    for chunk in chunks:
        assert chunk.frames.nbytes == (64 + 3 + 3) * 16 * 64
        for name in chunk.__struct_fields__:
            assert getattr(chunk, name).base is None, f"{name} would be copied when it is sent"


def test_memory_given_away_is_not_written_again() -> None:
    trajectory = NStepAdder(2, NUMBERS, stack=2, agent=Agent(n_step=2, gamma=GAMMA), length=3)
    first, *later = run_plain(trajectory, 14, 2)
    assert later
    # Frame k is k everywhere: states are (k - 1, k), but for the first, which repeats its only frame.
    assert first.frames[first.index][::2].tolist() == [[0, 0], [0, 1], [1, 2]]
    assert first.frames[first.next_index][::2].tolist() == [[1, 2], [2, 3], [3, 4]]


def test_values_are_asked_for_only_where_an_episode_was_cut_off() -> None:
    asked: list[NDArray[Any]] = []

    def remembering(observations: NDArray[Any]) -> NDArray[np.float64]:
        asked.append(observations.copy())
        return np.tile([7.0, 5.0], (len(observations), 1))

    scripted = Scripted([[PLAIN], [TERMINATED], [PLAIN], [TRUNCATED], [PLAIN], [BOTH], [PLAIN]], True, 0)
    trajectory = NStepAdder(1, NUMBERS, stack=1, agent=Agent(n_step=1, gamma=GAMMA), length=6)
    trajectory.start(scripted.current)
    chunk = None
    for row in range(7):
        if trajectory.record(*scripted.step(row)):
            chunk = answered(trajectory.flush(), remembering)
    assert chunk is not None
    last_of_second = scripted.episodes[0][1][-1].last
    assert [observations.tolist() for observations in asked] == [[last_of_second]]
    cut = scripted.episodes[0][1][-1]
    assert chunk.priorities[3] == pytest.approx(abs(cut.reward + GAMMA * 7.0 - cut.chosen), abs=1e-5)
    assert chunk.discounts.tolist() == pytest.approx([GAMMA, 0.0, GAMMA, GAMMA, GAMMA, 0.0])


def test_starting_again_forgets_what_was_collected() -> None:
    trajectory = NStepAdder(1, NUMBERS, stack=2, agent=Agent(n_step=1, gamma=GAMMA), length=4)
    scripted = Scripted([[TERMINATED]] * 3, True, 0)
    trajectory.start(scripted.current)
    for row in range(3):
        trajectory.record(*scripted.step(row))
    fresh = NStepAdder(1, NUMBERS, stack=2, agent=Agent(n_step=1, gamma=GAMMA), length=4)
    (again,), (new,) = run_plain(trajectory, 5, 1), run_plain(fresh, 5, 1)
    for name in new.__struct_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(new, name), err_msg=name)


def test_flushing_a_block_that_is_not_full_is_refused() -> None:
    trajectory = NStepAdder(1, NUMBERS, stack=1, agent=Agent(n_step=2, gamma=GAMMA), length=4)
    trajectory.start(np.zeros(1))
    with pytest.raises(RuntimeError, match="0 of 6 steps"):
        answered(trajectory.flush(), q_of)


def test_a_chunk_of_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 steps"):
        NStepAdder(1, NUMBERS, stack=1, agent=Agent(n_step=2, gamma=GAMMA), length=1)


@settings(max_examples=50)
@given(script=scripts(), same_step=st.booleans(), stack=st.sampled_from([1, 2, 4]))
def test_acting_stacks_frames_as_chunks_do(
    script: tuple[list[list[int]], int], same_step: bool, stack: int
) -> None:
    ends, seed = script
    scripted = Scripted(ends, same_step, seed)
    frames = FrameStack(scripted.count, (), np.dtype(np.int64), stack)
    acted = frames.reset(scripted.current)
    trajectory = NStepAdder(
        scripted.count,
        NUMBERS,
        stack=stack,
        agent=Agent(n_step=1, gamma=GAMMA),
        length=len(ends) - 1,
    )
    trajectory.start(scripted.current)
    acted_on: list[tuple[int, ...]] = []
    for row in range(len(ends)):
        before = acted.reshape(scripted.count, stack).copy()
        actions, q, step = scripted.step(row)
        if row < len(ends) - 1:
            acted_on += [tuple(before[e].tolist()) for e in np.flatnonzero(step.valid)]
        full = trajectory.record(actions, q, step)
        acted = frames.push(step.observations, step.starts if step.boundary else None)
    assert full
    assert [transition.state for transition in expanded(answered(trajectory.flush(), q_of))] == acted_on
