"""Spaces: the observation and action spaces that a DQN supports, and the conversion of observations to
frames.

A *frame* is one observation as the environment returns it; an *observation* of the network is `frame_stack`
of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from .task import Task, TaskError

# One-hot rows of more states than this would be large, and learn poorly.
MAX_DISCRETE_OBSERVATIONS = 4096

Convert = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Spaces:
    """Shapes and dtypes that networks, replay and explorers share."""

    frame_shape: tuple[int, ...]  # one frame; channels first where it has three dimensions
    dtype: np.dtype[Any]  # the environment's own; float32 for the one-hot rows of a Discrete observation
    observation_shape: tuple[int, ...]  # frame_shape, or (frame_stack, *frame_shape) where frames are stacked
    actions: int  # actions are 0 .. actions - 1, wherever the environment's own start


def read_spaces(observation_space: Space[Any], action_space: Space[Any], task: Task) -> Spaces:
    """Describe one environment's spaces.

    Raises `TaskError` for spaces that a DQN doesn't support; the sentence names those it does.
    """
    if not isinstance(action_space, Discrete):
        raise TaskError(
            "env",
            f"{task.env} has the action space {action_space}; DQN chooses one of finitely many actions, "
            "so it takes Discrete actions only",
        )
    frame_shape, dtype = _frame(observation_space, task)
    stacked = (task.frame_stack, *frame_shape) if task.frame_stack > 1 else frame_shape
    return Spaces(frame_shape, dtype, stacked, int(action_space.n))


def frame_converter(observation_space: Space[Any], task: Task) -> Convert | None:
    """A conversion of this environment's observations to frames; None if they are frames already."""
    if isinstance(observation_space, Discrete):
        one_hot = np.eye(int(observation_space.n), dtype=np.float32)
        first = int(observation_space.start)
        return lambda observations: one_hot[observations - first]
    if len(observation_space.shape or ()) == 3 and task.channels == "last":
        return lambda observations: np.moveaxis(observations, -1, 1)
    return None


def _frame(space: Space[Any], task: Task) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if isinstance(space, Discrete):
        if space.n > MAX_DISCRETE_OBSERVATIONS:
            raise TaskError(
                "env",
                f"{task.env} has {space.n} discrete observations; they are given to the network as one-hot "
                f"rows, which is reasonable up to {MAX_DISCRETE_OBSERVATIONS}",
            )
        return (int(space.n),), np.dtype(np.float32)
    if not isinstance(space, Box):
        raise TaskError(
            "env",
            f"{task.env} has the observation space {space}; DQN takes a Box of one to three dimensions, "
            "or a Discrete (as one-hot rows). Wrap the environment, for example in "
            "gymnasium.wrappers.FlattenObservation",
        )
    dtype = np.dtype(space.dtype)
    if dtype.kind not in "fiub":
        raise TaskError(
            "env", f"{task.env} has observations of dtype {dtype}; DQN takes real numbers or bool"
        )
    if not 1 <= len(space.shape) <= 3 or 0 in space.shape:
        raise TaskError(
            "env",
            f"{task.env} has observations of shape {space.shape}; DQN takes one to three dimensions, none of "
            "them empty (a vector, a grey image, or an image with channels)",
        )
    if len(space.shape) == 3 and task.channels == "last":
        height, width, channels = space.shape
        return (channels, height, width), dtype
    return tuple(space.shape), dtype
