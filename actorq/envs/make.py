"""Construction of a task's environments, vectorized by the fastest correct method."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from . import registry
from .environments import Environments
from .spaces import Spaces
from .task import Task, TaskError

_ATARI = "ale_py.env:AtariEnv"

Vector = VectorEnv[Any, Any, Any]


def make_environments(task: Task, count: int, seed: int, *, render: bool = False) -> Environments:
    """`count` environments of `task`, not yet reset; each gets a seed of its own, derived from `seed`.

    An environment's own vector implementation is used if it supports the task's settings (two to three times
    as fast for CartPole-v1), gymnasium's SyncVectorEnv otherwise. `render=True` makes environments whose
    `render()` returns RGB images.

    Raises `TaskError`, which names the key of `[task]` and what would be right: an unknown name, a missing
    package, wrong options, spaces that a DQN doesn't support, an environment that can't be rendered.
    """
    vector = _make_vector(task, count, render)
    try:
        return Environments(vector, task, seed)
    except BaseException:
        vector.close()
        raise


def describe(task: Task) -> Spaces:
    """The spaces of the task, read from one environment that is made and closed again. Raises `TaskError`."""
    environments = make_environments(task, count=1, seed=0)
    environments.close()
    return environments.spaces


def _make_vector(task: Task, count: int, render: bool) -> Vector:
    found = registry.find(task.env)
    try:
        if not isinstance(found, EnvSpec):
            return _own(found, task, count, render)
        if found.entry_point == _ATARI:
            from . import atari  # needs ale-py, an extra

            return atari.make(found, task, count)
        return _native(found, task, count, render) or _generic(found, task, count, render)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise TaskError("options", f"{task.env} does not take these options: {error}") from error
        raise
    except TaskError:
        raise
    except ValueError as error:
        raise TaskError("options", f"{task.env} refuses its options: {error}") from error
    except (ImportError, gymnasium.error.Error) as error:
        if not isinstance(found, EnvSpec):
            raise
        raise TaskError("env", f"{task.env} can't be made here: {error}") from error


def _native(spec: EnvSpec, task: Task, count: int, render: bool) -> Vector | None:
    """The environment's own vector implementation; None if it has none that supports the task's settings."""
    entry_point = spec.vector_entry_point
    if entry_point is None or spec.additional_wrappers:
        return None
    try:
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except ImportError:
        return None
    arguments = {**spec.kwargs, **task.options}
    limit = task.max_episode_steps or spec.max_episode_steps
    wanted = {"max_episode_steps": limit is not None, "render_mode": render}
    if not all(_takes(creator, name) for name, needed in wanted.items() if needed):
        return None
    if limit is not None:
        arguments["max_episode_steps"] = limit
    if render:
        arguments["render_mode"] = "rgb_array"
    vector: Any = creator(num_envs=count, **arguments)
    if "autoreset_mode" in vector.metadata:
        own: Vector = vector
        return own
    vector.close()  # it declares no autoreset mode; the generic one is certainly right
    return None


def _generic(spec: EnvSpec, task: Task, count: int, render: bool) -> Vector:
    arguments = dict(task.options)
    if render:
        arguments["render_mode"] = "rgb_array"
        entry_point = spec.entry_point
        _check_renders(load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point, task)

    def make() -> gymnasium.Env[Any, Any]:
        return gymnasium.make(
            spec,
            disable_env_checker=True,  # it costs at every step
            max_episode_steps=task.max_episode_steps,
            **arguments,
        )

    return _synchronous(make, count)


def _own(factory: registry.Factory, task: Task, count: int, render: bool) -> Vector:
    """Environments of the user's class or factory, which makes a vector environment or a single one."""
    options = dict(task.options)
    if render:
        _check_renders(factory, task)
        options["render_mode"] = "rgb_array"
    if isinstance(factory, type) and issubclass(factory, VectorEnv):
        if task.max_episode_steps is not None:
            options["max_episode_steps"] = task.max_episode_steps
        vector: Vector = factory(**{"num_envs": count, **options})
        return vector

    def make() -> gymnasium.Env[Any, Any]:
        made = factory(**options)
        if not isinstance(made, gymnasium.Env):
            raise TaskError("env", f"{task.env} made a {type(made).__name__}, which is no gymnasium.Env")
        return made if task.max_episode_steps is None else TimeLimit(made, task.max_episode_steps)

    return _synchronous(make, count)


def _synchronous(make: registry.Factory, count: int) -> Vector:
    # DISABLED wastes no step on resets, and keeps the true last observation even of an environment that
    # writes all its observations into one buffer (SAME_STEP would return that buffer after the reset).
    return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)


def _check_renders(creator: Any, task: Task) -> None:
    metadata = getattr(creator, "metadata", None)  # a factory function has none, and its product may render
    if metadata is not None and "rgb_array" not in metadata.get("render_modes", ()):
        raise TaskError("env", f'{task.env} can\'t be rendered: its metadata has no render mode "rgb_array"')


def _takes(creator: registry.Factory, name: str) -> bool:
    parameters = inspect.signature(creator).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
