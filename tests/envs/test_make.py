from __future__ import annotations

from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
import pytest

from actorq.envs.environments import Environments
from actorq.envs.make import describe, make_environments
from actorq.envs.task import Task, TaskError

from .custom import SPACES

HERE = "tests.envs.custom:"


def shaped(case: str, **settings: object) -> Task:
    return Task(env=HERE + "Shaped", options={"case": case}, **settings)  # type: ignore[arg-type]


def vector_kind(environments: Environments) -> str:
    return type(environments._vector).__name__


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ("CartPole-v1", "CartPoleVectorEnv"),
        ("actorq/GridWorld-v0", "GridWorldVector"),
        ("Acrobot-v1", "SyncVectorEnv"),
        (HERE + "Counters", "Counters"),
        (HERE + "Counter", "SyncVectorEnv"),
    ],
)
def test_an_own_vector_implementation_is_used_where_there_is_one(env: str, kind: str) -> None:
    assert vector_kind(make_environments(Task(env=env), 2, 0)) == kind


def episode_ends(task: Task, steps: int) -> list[tuple[int, bool, bool]]:
    """(length, terminated, truncated) of every episode that two environments finish; action 0 throughout."""
    environments = make_environments(task, 2, 0)
    environments.reset()
    ends = []
    for _ in range(steps):
        step = environments.step(np.zeros(2, np.int64))
        if step.finished is not None:
            for row, length in zip(step.finished.environments, step.finished.lengths, strict=True):
                ends.append((int(length), bool(step.terminated[row]), bool(step.truncated[row])))
    return ends


@pytest.mark.parametrize(
    ("env", "limit"),
    [
        ("CartPole-v1", 4),  # its vector implementation counts by itself
        ("actorq/GridWorld-v0", 4),
        ("Acrobot-v1", 4),
        (HERE + "Counter", 4),
        ("actorq/GridWorld-v0", None),  # the registered limit, 100
    ],
)
def test_too_long_episodes_are_truncated_not_terminated(env: str, limit: int | None) -> None:
    ends = episode_ends(Task(env=env, max_episode_steps=limit), 2 * (limit or 100) + 2)
    assert ends == [(limit or 100, False, True)] * 4


@pytest.fixture
def registered() -> Iterator[Callable[[str], str]]:
    """Registers Counter under an id, with the named class as its vector implementation."""
    ids = []

    def register(vector: str) -> str:
        ids.append(f"{vector}-v0")
        gymnasium.register(id=ids[-1], entry_point=HERE + "Counter", vector_entry_point=HERE + vector)
        return ids[-1]

    yield register
    for name in ids:
        del gymnasium.registry[name]


def test_the_generic_vector_stands_in_where_the_own_one_cannot_do_what_is_asked(
    registered: Callable[[str], str],
) -> None:
    own, unsaid = registered("Mutating"), registered("Unsaid")
    assert vector_kind(make_environments(Task(env=own), 2, 0)) == "Mutating"
    assert vector_kind(make_environments(Task(env=own, max_episode_steps=3), 2, 0)) == "SyncVectorEnv"
    assert episode_ends(Task(env=own, max_episode_steps=3), 3) == [(3, False, True)] * 2
    assert vector_kind(make_environments(Task(env=unsaid), 2, 0)) == "SyncVectorEnv"


@pytest.mark.parametrize(
    ("task", "field", "says"),
    [
        (Task(env="CartPole-v7"), "env", "the nearest: CartPole-v"),
        (Task(env="cartpole"), "env", "CartPole-v"),
        (Task(env="Zzz"), "env", "gymnasium knows no environment 'Zzz'"),
        (Task(env="nowhere.at_all:Thing"), "env", "no 'nowhere'"),
        (Task(env="tests.envs.nothing:Thing"), "env", "no 'tests.envs.nothing'"),
        (Task(env=HERE + "Countr"), "env", "the nearest: Counter"),
        (Task(env=HERE + "NOT_CALLABLE"), "env", "no class or function"),
        (Task(env=HERE + "no_environment"), "env", "made a int"),
        (Task(env=HERE + "Unsaid"), "env", "doesn't say how it begins the next episode"),
        (Task(env=HERE + "Misspelt"), "env", "unknown autoreset mode 'whenever'"),
        (Task(env=HERE + "refusing", options={"colour": "blue"}), "options", "colour must be red"),
        (Task(env=HERE + "Counter", options={"lengh": 3}), "options", "lengh"),
        (Task(env="CartPole-v1", options={"lengh": 3}), "options", "lengh"),
        (Task(env="Acrobot-v1", options={"lengh": 3}), "options", "lengh"),
        (Task(env="actorq/GridWorld-v0", options={"slip": 2}), "options", "probability"),
        (Task(env=HERE + "Mutating", max_episode_steps=3), "options", "max_episode_steps"),
        (Task(env="phys2d/CartPole-v1"), "env", "jax"),
        (Task(env="Pendulum-v1"), "env", "Discrete actions only"),
        (shaped("continuous actions"), "env", "Discrete actions only"),
        (shaped("several actions"), "env", "Discrete actions only"),
        (shaped("binary actions"), "env", "Discrete actions only"),
        (shaped("dict"), "env", "one to three dimensions"),
        (shaped("text"), "env", "one to three dimensions"),
        (shaped("multi discrete"), "env", "FlattenObservation"),
        (shaped("four dimensions"), "env", "(4, 6, 5, 3)"),
        (shaped("no dimension"), "env", "one to three dimensions"),
        (shaped("empty"), "env", "empty"),
        (shaped("huge discrete"), "env", "100000 discrete observations"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(task: Task, field: str, says: str) -> None:
    with pytest.raises(TaskError) as refused:
        describe(task)
    assert refused.value.field == field
    assert says in str(refused.value)


@pytest.mark.parametrize(("env", "extra"), [("ALE/Pong-v5", "atari"), ("MinAtar/Breakout-v1", "minatar")])
def test_a_missing_extra_is_named(env: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=rf"pip install 'actorq\[{extra}\]'"):
        describe(Task(env=env))


@pytest.mark.parametrize(
    ("task", "frame_shape", "dtype", "observation_shape", "actions"),
    [
        (Task(env="CartPole-v1"), (4,), "float32", (4,), 2),
        (Task(env="CartPole-v1", frame_stack=3), (4,), "float32", (3, 4), 2),
        (Task(env="FrozenLake-v1"), (16,), "float32", (16,), 4),
        (shaped("float64"), (3,), "float64", (3,), 2),
        (shaped("grey", frame_stack=4), (6, 5), "uint8", (4, 6, 5), 2),
        (shaped("image"), (3, 6, 5), "uint8", (3, 6, 5), 2),
        (shaped("image", channels="first"), (6, 5, 3), "uint8", (6, 5, 3), 2),
        (shaped("image", frame_stack=2), (3, 6, 5), "uint8", (2, 3, 6, 5), 2),
        (shaped("bool"), (3, 6, 5), "bool", (3, 6, 5), 2),
        (shaped("discrete"), (4,), "float32", (4,), 2),
        (shaped("offset actions"), (3,), "float32", (3,), 3),
    ],
)
def test_spaces_are_as_described(
    task: Task,
    frame_shape: tuple[int, ...],
    dtype: str,
    observation_shape: tuple[int, ...],
    actions: int,
) -> None:
    spaces = describe(task)
    assert (spaces.frame_shape, spaces.dtype) == (frame_shape, np.dtype(dtype))
    assert (spaces.observation_shape, spaces.actions) == (observation_shape, actions)
    environments = make_environments(task, 3, 0)
    assert environments.reset().shape == (3, *frame_shape)
    for action in range(actions):
        step = environments.step(np.full(3, action))  # an action outside the environment's space would raise
        assert step.observations.shape == (3, *frame_shape)
        assert step.observations.dtype == np.dtype(dtype)


def test_discrete_observations_become_one_hot_rows() -> None:
    environments = make_environments(shaped("discrete"), 3, 0)
    frames = environments.reset()
    assert frames.sum(axis=1).tolist() == [1.0, 1.0, 1.0]
    frozen = make_environments(Task(env="FrozenLake-v1", options={"is_slippery": False}), 2, 0)
    assert frozen.reset().argmax(axis=1).tolist() == [0, 0]
    assert frozen.step(np.array([2, 1])).observations.argmax(axis=1).tolist() == [1, 4]


def test_channels_move_and_nothing_else() -> None:
    space, _ = SPACES["image"]
    space.seed(3)
    as_given = make_environments(shaped("image", channels="first"), 2, 0).reset()
    space.seed(3)
    moved = make_environments(shaped("image"), 2, 0).reset()
    np.testing.assert_array_equal(as_given.transpose(0, 3, 1, 2), moved)


@pytest.mark.parametrize(
    "env", ["CartPole-v1", "actorq/GridWorld-v0", "FrozenLake-v1"], ids=["own", "grid", "generic"]
)
def test_pictures_are_rendered(env: str) -> None:
    environments = make_environments(Task(env=env), 2, 0, render=True)
    environments.reset()
    pictures = environments.render()
    environments.close()
    assert len(pictures) == 2
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for picture in pictures)
    assert all(picture.dtype == np.uint8 for picture in pictures)


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(TaskError, match="can't be rendered"):
        make_environments(Task(env=HERE + "Counter"), 1, 0, render=True)


def test_gymnasium_itself_can_make_the_grid_world() -> None:
    env = gymnasium.make("actorq/GridWorld-v0", start="any")
    observation, _ = env.reset(seed=1)
    assert observation.sum() == 1.0
