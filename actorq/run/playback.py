"""Evaluation of a run's last checkpoint: its greedy policy, on seeds of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio.lowlevel
import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from numpy.typing import NDArray

from actorq.actors import ActorqError, State
from actorq.actors.spec import ActorSpec
from actorq.envs import registry
from actorq.envs.environments import Environments, Step
from actorq.envs.frames import FrameStack
from actorq.envs.grid import Grid
from actorq.envs.make import describe, make_environments
from actorq.envs.task import Task, TaskError, task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.networks.numpy_acting import Policy, make_policy
from actorq.learning.networks.task_layout import TaskLayout
from actorq.roles.averaging.server import AveragingServer
from actorq.roles.evaluation.evaluator import Evaluator
from actorq.roles.evaluation.rollouts import play
from actorq.topology import check

from .records import checkpoint
from .records.folder import RunFolder

IMAGES_AT_LEAST = 200
"""Whole episodes are filmed until this many images are recorded."""

SIDE_AT_LEAST = 160
"""Smaller images (an Atari agent's 84 x 84, MinAtar's 10 x 10) are enlarged by a whole factor beyond it."""

GRID_WORLD = "actorq/GridWorld-v0"

Image = NDArray[np.uint8]


class PlaybackError(ActorqError, ValueError):
    """The learned policy can't be played or filmed."""


class LearnedPolicy:
    """The Q-network of one task from a checkpoint: its parameters and their optimizer steps."""

    def __init__(self, actor: str, task: Task, agent: Agent, parameters: NDArray[Any], updates: int) -> None:
        self.actor = actor
        """The actor whose state has the parameters."""
        self.task = task
        self.agent = agent
        self.parameters = parameters
        self.updates = updates

    def policy(self) -> Policy:
        """A policy with these parameters. Raises PlaybackError if they don't fit the network."""
        try:
            spaces = describe(self.task)
            policy = make_policy(self.agent, spaces.observation_shape, spaces.dtype, spaces.actions)
            policy.load(self.parameters)
        except (TaskError, ValueError) as error:
            raise _unplayable(self.actor, error) from error
        return policy


def load_learned(run: Path) -> dict[str, LearnedPolicy]:
    """The learned policies in the last checkpoint of a run's folder, by task name: an evaluator's, which are
    the best, or else an averaging server's center, or a learner's newest.

    Raises RunFolderError, TopologyError or CheckpointError as reading these does, PlaybackError if there is
    none.
    """
    folder = RunFolder.open(run)
    plan = check(folder.topology)
    path = checkpoint.latest(folder.checkpoints)
    if path is None:
        raise checkpoint.CheckpointError(f"{run}: there is no complete checkpoint to evaluate")
    states, _ = checkpoint.load(path)
    for spec in sorted(plan.specs, key=_rank):
        if learned := _learned(spec, states.get(spec.name) or {}):
            return learned
    raise PlaybackError(f"{path}: no actor in it keeps the parameters of a Q-network")


def _rank(spec: ActorSpec) -> int:
    """Order of preference among actors that have parameters."""
    order = (Evaluator, AveragingServer)
    return next((rank for rank, cls in enumerate(order) if issubclass(spec.cls, cls)), len(order))


def _learned(spec: ActorSpec, state: State) -> dict[str, LearnedPolicy]:
    tasks, agent = tasks_in(spec.tables), spec.tables.get("agent")
    if not (tasks and isinstance(agent, Agent) and {"parameters", "updates"} <= state.keys()):
        return {}
    parts, updates = [state["parameters"]], int(state["updates"])
    if len(tasks) > 1:
        try:
            layout = TaskLayout(agent, [describe(task) for task in tasks])
            parts = [layout.part(state["parameters"], number) for number in range(len(tasks))]
        except (TaskError, ValueError) as error:
            raise _unplayable(spec.name, error) from error
    parted = zip(task_names(tasks), tasks, parts, strict=True)
    return {name: LearnedPolicy(spec.name, task, agent, part, updates) for name, task, part in parted}


def _unplayable(actor: str, error: Exception) -> PlaybackError:
    return PlaybackError(f"what {actor} has learned can't be played: {error}")


async def play_greedily(learned: LearnedPolicy, episodes: int, seed: int) -> NDArray[np.float64]:
    """The undiscounted returns, [episodes]; the same seed plays the same episodes.

    Cancelled, it stops at the next checkpoint. Raises PlaybackError if the environment can't be made.
    """
    policy = learned.policy()
    environments = _environments(learned.task, episodes, seed, render=False)
    try:
        return await play(environments, _stack(environments, learned.task), policy, anyio.lowlevel.checkpoint)
    finally:
        environments.close()


async def film(
    learned: LearnedPolicy, episodes: int, seed: int, show: Callable[[Image], None]
) -> NDArray[np.float64]:
    """Play episodes one by one and pass each image, RGB [height, width, 3], to `show`; returns their returns.

    Whole episodes are filmed until there are IMAGES_AT_LEAST images, and at most `episodes`. Raises
    PlaybackError if the environment can't be rendered.
    """
    policy = learned.policy()
    environments = _environments(learned.task, 1, seed, render=True)
    returns: list[NDArray[np.float64]] = []
    try:
        camera = _Camera(environments, learned.task, show)
        filmed = cast(Environments, camera)  # all of it that `play` uses
        stack = _stack(environments, learned.task)
        while len(returns) < episodes and camera.images < IMAGES_AT_LEAST:
            returns.append(await play(filmed, stack, policy, anyio.lowlevel.checkpoint))
    finally:
        environments.close()
    return np.concatenate(returns)


class _Camera:
    """Wrapper of environments that passes on the image of each step but an episode's last: after an autoreset
    that would be the next episode's first.
    """

    def __init__(self, environments: Environments, task: Task, show: Callable[[Image], None]) -> None:
        self.count = environments.count
        self.images = 0
        self._environments = environments
        self._task = task
        self._show = show

    def reset(self) -> NDArray[Any]:
        frames = self._environments.reset()
        self._record()
        return frames

    def step(self, actions: NDArray[np.integer[Any]]) -> Step:
        step = self._environments.step(actions)
        if step.finished is None:
            self._record()
        return step

    def _record(self) -> None:
        try:
            images = self._environments.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise PlaybackError(
                f"{self._task.env} can't be rendered: {error}; pip install 'actorq[video]'"
            ) from error
        if not images:
            raise PlaybackError(f"{self._task.env} can't be rendered: it returns no images")
        self.images += 1
        self._show(_enlarged(images[0]))


def _enlarged(image: NDArray[Any]) -> Image:
    """As bytes (MinAtar has colours from 0 to 1), at least SIDE_AT_LEAST pixels wide and high."""
    if image.dtype.kind == "f":
        image = (255 * image.clip(0, 1)).round().astype(np.uint8)
    factor = -(-SIDE_AT_LEAST // min(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def images_per_second(task: Task) -> float:
    """The environment's own frame rate (`render_fps`), or 30."""
    found = registry.find(task.env)
    creator: Any = found.entry_point if isinstance(found, EnvSpec) else found
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    return float(getattr(creator, "metadata", {}).get("render_fps") or 30)


def value_map(learned: LearnedPolicy) -> str | None:
    """The map of a GridWorld with greedy arrows and the learned values, in units of its rewards. None for
    other environments, and for stacked frames, with which a cell has no single value.
    """
    task = learned.task
    if task.env != GRID_WORLD or task.frame_stack != 1:
        return None
    grid = Grid(**task.options)
    # PopArt ("adaptive") publishes parameters whose values are in units of reward already.
    scale = 1.0 if task.reward_scale == "adaptive" else task.reward_scale
    return grid.render_values(learned.policy().q_values(np.eye(grid.count, dtype=np.float32)) / scale)


def _environments(task: Task, count: int, seed: int, *, render: bool) -> Environments:
    try:
        return make_environments(task, count, seed, render=render)
    except TaskError as error:
        raise PlaybackError(str(error)) from error


def _stack(environments: Environments, task: Task) -> FrameStack:
    spaces = environments.spaces
    return FrameStack(environments.count, spaces.frame_shape, spaces.dtype, task.frame_stack)
