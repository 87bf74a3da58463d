from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actorq.envs.environments import Environments, Step
from actorq.envs.make import make_environments
from actorq.envs.task import Task

from .custom import Counter, Counters, Mutating

HERE = "tests.envs.custom:"
MODES = [mode.value for mode in AutoresetMode]


def transitions(environments: Environments, steps: int) -> list[list[tuple[Any, ...]]]:
    """What each environment went through: (frame, reward, terminated, truncated, next frame)."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in range(environments.count)]
    frames = environments.reset().copy()
    for _ in range(steps):
        step = environments.step(np.ones(environments.count, np.int64))
        for e in np.flatnonzero(step.valid):
            found[e].append(
                (
                    tuple(frames[e]),
                    float(step.rewards[e]),
                    bool(step.terminated[e]),
                    bool(step.truncated[e]),
                    tuple(step.next_observations[e]),
                )
            )
        frames = step.observations.copy()
    return found


@pytest.mark.parametrize("terminates", [True, False], ids=["terminated", "truncated"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_transitions(mode: str, terminates: bool) -> None:
    environments = make_environments(
        Task(env=HERE + "Counters", options={"mode": mode, "terminates": terminates}), 3, 0
    )
    for length, found in zip((2, 3, 4), transitions(environments, 20), strict=True):
        for number, transition in enumerate(found):
            episode, step = number // length + 1, number % length
            ends = step == length - 1
            assert transition == (
                (episode, step),
                float(step + 1),
                ends and terminates,
                ends and not terminates,
                (episode, step + 1),
            )
        # Only NEXT_STEP spends steps on resets.
        assert len(found) == (20 - 20 // (length + 1) if mode == "NextStep" else 20)


@pytest.mark.parametrize("mode", MODES)
def test_starts_and_boundaries_tell_where_episodes_begin(mode: str) -> None:
    environments = make_environments(Task(env=HERE + "Counters", options={"mode": mode}), 3, 0)
    environments.reset()
    for _ in range(20):
        step = environments.step(np.zeros(3, np.int64))
        assert step.starts.tolist() == (step.observations[:, 1] == 0).tolist()
        ended = step.terminated | step.truncated
        assert step.boundary == bool(ended.any() or step.starts.any() or not step.valid.all())
        assert not (ended & ~step.valid).any()


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_counted_with_their_returns_and_lengths(mode: str) -> None:
    task = Task(env=HERE + "Counters", options={"mode": mode}, reward_clip=1.5, reward_scale=4.0)
    environments = make_environments(task, 3, 0)
    environments.reset()
    finished: list[tuple[int, float, int]] = []
    rewards: list[float] = []
    for _ in range(13):
        step = environments.step(np.zeros(3, np.int64))
        rewards += step.rewards[step.valid].tolist()
        if step.finished is not None:
            finished += zip(*(column.tolist() for column in step.finished), strict=True)
    # Rewards count up, 1, 2, 3 …: an episode of k steps returns k (k + 1) / 2, whatever is learned from.
    assert all((ret, length) == ((e + 2) * (e + 3) / 2, e + 2) for e, ret, length in finished)
    assert {e for e, _, _ in finished} == {0, 1, 2}
    assert max(rewards) == 6.0, "clipped, then scaled"
    assert environments.episodes == len(finished)
    assert environments.env_steps == len(rewards)


def test_the_action_of_a_resetting_environment_is_ignored() -> None:
    environments = make_environments(Task(env=HERE + "Counters", options={"mode": "NextStep"}), 1, 0)
    environments.reset()
    steps = [environments.step(np.array([action])) for action in (0, 1, 2, 0)]
    assert [bool(step.valid[0]) for step in steps] == [True, True, False, True]
    counter: Counter = environments._vector.envs[0].unwrapped  # type: ignore[attr-defined]
    assert counter.actions == [0, 1, 0]


def test_a_buffer_that_is_used_again_does_not_spoil_last_observations() -> None:
    single = make_environments(Task(env=HERE + "Counter", options={"terminates_after": 3}), 2, 0)
    same_step = make_environments(Task(env=HERE + "Mutating"), 2, 0)
    by_hand = make_environments(Task(env=HERE + "MutatingByHand"), 2, 0)
    for environments, length in ((single, 3), (same_step, 2), (by_hand, 2)):
        found = transitions(environments, 7)[0]
        assert [t[-1][-1] for t in found[: 2 * length]] == [*range(1, length + 1)] * 2
        assert [t[0][-1] for t in found[: 2 * length]] == [*range(length)] * 2


def test_ends_may_be_given_as_numbers() -> None:
    class Numeric(Mutating):
        def step(self, actions: Any) -> tuple[Any, ...]:
            observations, rewards, terminated, truncated, infos = super().step(actions)
            return observations, rewards, terminated.astype(np.int64), truncated.tolist(), infos

    plain, numeric = (Environments(made(3), Task(env="mutating"), 0) for made in (Mutating, Numeric))
    for one, other in zip(transitions(plain, 9), transitions(numeric, 9), strict=True):
        np.testing.assert_equal(one, other)


def test_an_end_without_its_last_observation_is_an_error() -> None:
    class Silent(Mutating):
        def step(self, actions: Any) -> tuple[Any, ...]:
            return (*super().step(actions)[:4], {})

    environments = Environments(Silent(1), Task(env="silent"), 0)
    environments.reset()
    environments.step(np.zeros(1, np.int64))
    with pytest.raises(RuntimeError, match="final_obs"):
        environments.step(np.zeros(1, np.int64))


def test_observations_unlike_their_space_are_refused() -> None:
    class Narrow(Mutating):
        def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
            return super().reset()[0].astype(np.int32), {}

    with pytest.raises(ValueError, match=r"dtype int32.*says \(1,\) and int64"):
        Environments(Narrow(1), Task(env="narrow"), 0).reset()


def seeds(environments: Environments) -> list[list[int | None]]:
    vector = environments._vector
    assert isinstance(vector, SyncVectorEnv)
    return [env.seeds for env in vector.envs]  # type: ignore[attr-defined]


def test_each_environment_and_each_reset_has_a_seed_of_its_own() -> None:
    task = Task(env=HERE + "Counter")
    environments, again, other = (make_environments(task, 4, seed) for seed in (7, 7, 8))
    for made in (environments, again, other):
        made.reset()
        made.reset()
    assert seeds(environments) == seeds(again)
    everything = [seed for made in (environments, other) for pair in seeds(made) for seed in pair]
    assert len(set(everything)) == 16
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in everything)


def test_a_resumed_run_keeps_its_counts_and_uses_fresh_seeds() -> None:
    task = Task(env=HERE + "Counter", options={"terminates_after": 2})
    first, second = make_environments(task, 2, 7), make_environments(task, 2, 7)
    first.reset()
    for _ in range(5):
        first.step(np.zeros(2, np.int64))
    second.load_state(first.state())
    second.reset()
    assert (second.env_steps, second.episodes) == (10, 4)
    assert not {pair[0] for pair in seeds(first)} & {pair[0] for pair in seeds(second)}


@pytest.mark.parametrize("env", ["CartPole-v1", "actorq/GridWorld-v0", "Acrobot-v1"])
def test_one_seed_gives_one_history(env: str) -> None:
    def history(seed: int) -> list[Step]:
        environments = make_environments(
            Task(env=env, max_episode_steps=9, options={"slip": 0.3} if "Grid" in env else {}), 4, seed
        )
        environments.reset()
        rng = np.random.default_rng(0)
        return [environments.step(rng.integers(0, environments.spaces.actions, 4)) for _ in range(40)]

    def frames(steps: list[Step]) -> Any:
        return np.stack([step.observations for step in steps])

    np.testing.assert_array_equal(frames(history(3)), frames(history(3)))
    assert (frames(history(3)) != frames(history(4))).any()


def test_resetting_drops_what_was_under_way() -> None:
    environments = Environments(Counters(2, mode="NextStep"), Task(env="counters"), 0)
    environments.reset()
    environments.step(np.zeros(2, np.int64))
    environments.step(np.zeros(2, np.int64))  # the first one ended, and would reset itself next
    environments.reset()
    step = environments.step(np.zeros(2, np.int64))
    assert step.valid.all()
    assert not step.boundary
    finished = environments.step(np.zeros(2, np.int64)).finished
    assert finished is not None
    assert finished.lengths.tolist() == [2]
    assert finished.returns.tolist() == [3.0]
