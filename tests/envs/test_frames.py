from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actorq.envs.frames import FrameStack


@given(
    starts=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=15),
    stack=st.integers(1, 5),
)
def test_stacks_repeat_the_first_frame_of_an_episode(starts: list[list[bool]], stack: int) -> None:
    frames = FrameStack(3, (2,), np.dtype(np.int64), stack)
    history: list[list[int]] = [[0], [0], [0]]  # the frames of each environment's episode
    shown = frames.reset(np.zeros((3, 2), np.int64))
    for number, begins in enumerate(starts, 1):
        shown = frames.push(np.full((3, 2), number), np.array(begins) if any(begins) else None)
        for episode, new in zip(history, begins, strict=True):
            if new:
                episode.clear()
            episode.append(number)
    naive = np.array([([episode[0]] * stack + episode)[-stack:] for episode in history])
    np.testing.assert_array_equal(shown.reshape(3, stack, 2)[:, :, 0], naive)
    np.testing.assert_array_equal(shown.reshape(3, stack, 2)[:, :, 1], naive)


def test_pushing_allocates_nothing_new() -> None:
    frames = FrameStack(2, (84, 84), np.dtype(np.uint8), 4)
    first = frames.reset(np.zeros((2, 84, 84), np.uint8))
    assert first.shape == (2, 4, 84, 84)
    assert frames.push(np.ones((2, 84, 84), np.uint8), None) is first
