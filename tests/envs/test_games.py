"""Atari and MinAtar, which are extras."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.envs.make import describe, make_environments
from actorq.envs.task import Task, TaskError

atari = pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None, reason="ale-py is not installed: pip install 'actorq[atari]'"
)
minatar = pytest.mark.skipif(
    importlib.util.find_spec("minatar") is None,
    reason="minatar is not installed: pip install 'actorq[minatar]'",
)

BREAKOUT = "ALE/Breakout-v5"


@atari
def test_atari_frames_are_grey_and_stacking_is_ours() -> None:
    spaces = describe(Task(env=BREAKOUT, frame_stack=4))
    assert (spaces.frame_shape, spaces.dtype.name) == ((84, 84), "uint8")
    assert spaces.observation_shape == (4, 84, 84)
    assert spaces.actions == 4


@atari
def test_atari_steps_skip_four_frames_and_long_episodes_are_truncated() -> None:
    environments = make_environments(Task(env=BREAKOUT, max_episode_steps=20), 2, 0)
    frames = environments.reset()
    assert frames.any()
    for number in range(1, 41):
        step = environments.step(np.full(2, 3))  # the paddle moves: last and first frames differ
        assert step.truncated.tolist() == [number % 20 == 0] * 2
        assert not step.terminated.any()
        if step.finished is not None:
            assert step.finished.lengths.tolist() == [20, 20]
            assert (step.next_observations != step.observations).any()
    assert environments.env_steps == 80
    environments.close()


@atari
def test_atari_takes_options_and_keeps_rewards_unclipped_in_reports() -> None:
    task = Task(
        env="ALE/Pong-v5", options={"episodic_life": True, "img_height": 42, "img_width": 42}, reward_clip=0.5
    )
    environments = make_environments(task, 1, 0)
    assert environments.spaces.frame_shape == (42, 42)
    environments.reset()
    rewards = [float(environments.step(np.zeros(1, np.int64)).rewards[0]) for _ in range(120)]
    assert min(rewards) == -0.5
    assert float(environments._returns[0]) <= -1.0
    with pytest.raises(TaskError, match="not_one"):
        describe(Task(env="ALE/Pong-v5", options={"not_one": 1}))


@atari
def test_atari_has_one_history_per_seed() -> None:
    def frames(seed: int) -> NDArray[Any]:
        environments = make_environments(Task(env=BREAKOUT), 2, seed)
        environments.reset()
        return np.stack([environments.step(np.full(2, k % 4)).observations.copy() for k in range(30)])

    np.testing.assert_array_equal(frames(3), frames(3))
    assert (frames(3) != frames(4)).any()


@atari
def test_atari_pictures_show_what_the_agent_sees() -> None:
    environments = make_environments(Task(env=BREAKOUT), 2, 0, render=True)
    frames = environments.reset()
    np.testing.assert_array_equal(environments.render()[1][:, :, 0], frames[1])


@minatar
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its plotting libraries'
def test_minatar_frames_have_channels_first_and_stay_bool() -> None:
    spaces = describe(Task(env="MinAtar/Breakout-v1"))
    assert (spaces.frame_shape, spaces.dtype.name, spaces.actions) == ((4, 10, 10), "bool", 3)
    environments = make_environments(Task(env="MinAtar/Breakout-v1"), 3, 0)
    frames = environments.reset()
    assert frames.shape == (3, 4, 10, 10)
    assert (frames[:, 0].sum(axis=(1, 2)) == 1).all()  # channel 0: the paddle, one cell
    finished, rng = 0, np.random.default_rng(0)
    for _ in range(300):
        step = environments.step(rng.integers(0, 3, 3))
        assert step.observations.dtype == np.bool_
        finished += 0 if step.finished is None else len(step.finished.lengths)
    assert finished == environments.episodes > 0


@minatar
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_minatar_episodes_can_be_cut_off() -> None:
    environments = make_environments(Task(env="MinAtar/Freeway-v1", max_episode_steps=5), 2, 0)
    environments.reset()
    ends = [environments.step(np.zeros(2, np.int64)).truncated.tolist() for _ in range(10)]
    assert ends == ([[False] * 2] * 4 + [[True] * 2]) * 2
