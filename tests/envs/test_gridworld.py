from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from actorq.envs.environments import Environments
from actorq.envs.gridworld import GridWorld, GridWorldVector
from actorq.envs.make import make_environments
from actorq.envs.task import Task

OPTIONS: dict[str, Any] = {"map": "S..P\n.#..\n...G", "slip": 0.3, "start": "any", "step_reward": -0.1}
TASK = Task(env="actorq/GridWorld-v0", options=OPTIONS, max_episode_steps=12)


def test_gymnasium_finds_no_problem_in_it() -> None:
    check_env(GridWorld(render_mode="rgb_array", **OPTIONS), skip_render_check=True)


def counted(environments: Environments, steps: int) -> NDArray[np.float64]:
    """How often each (state, action) led to each state."""
    count = environments.spaces.frame_shape[0]
    seen = np.zeros((count, 4, count))
    rng = np.random.default_rng(1)
    states = environments.reset().argmax(axis=1)
    for _ in range(steps):
        actions = rng.integers(0, 4, environments.count)
        step = environments.step(actions)
        after = step.next_observations.argmax(axis=1)
        np.add.at(seen, (states[step.valid], actions[step.valid], after[step.valid]), 1)
        states = step.observations.argmax(axis=1)
    return seen


@pytest.mark.parametrize("own", [True, False], ids=["vector", "generic"])
def test_it_walks_as_its_model_says(own: bool) -> None:
    task = TASK if own else Task(env="actorq.envs.gridworld:GridWorld", options=OPTIONS, max_episode_steps=12)
    environments = make_environments(task, 32, 3)
    assert isinstance(environments._vector, GridWorldVector) == own
    seen = counted(environments, 1500)
    grid = GridWorld(**OPTIONS).grid
    alive = seen[~grid.terminal]
    assert (seen[grid.terminal] == 0).all()
    assert (alive.sum(axis=2) > 200).all(), "starting anywhere must reach every state and action"
    np.testing.assert_allclose(
        alive / alive.sum(axis=2, keepdims=True), grid.transitions[~grid.terminal], atol=0.08
    )


def test_rewards_and_ends_are_the_grids() -> None:
    environments = make_environments(TASK, 16, 5)
    grid = GridWorld(**OPTIONS).grid
    environments.reset()
    rng = np.random.default_rng(2)
    lengths: list[int] = []
    for _ in range(300):
        step = environments.step(rng.integers(0, 4, 16))
        after = step.next_observations.argmax(axis=1)
        np.testing.assert_allclose(step.rewards, grid.rewards[after], rtol=1e-6)
        assert (step.terminated == grid.terminal[after]).all()
        assert not grid.terminal[step.observations.argmax(axis=1)].any()
        if step.finished is not None:
            lengths += step.finished.lengths.tolist()
            cut = step.truncated[step.finished.environments]
            assert (step.finished.lengths[cut] == 12).all()
    assert max(lengths) == 12


def test_episodes_begin_at_the_start_of_the_map() -> None:
    environments = make_environments(Task(env="actorq/GridWorld-v0", options={"map": "..S\n..G"}), 50, 0)
    assert environments.reset().argmax(axis=1).tolist() == [2] * 50
    anywhere = make_environments(
        Task(env="actorq/GridWorld-v0", options={"map": "..S\n#.G", "start": "any"}), 50, 0
    )
    assert set(anywhere.reset().argmax(axis=1)) == {0, 1, 2, 3}
