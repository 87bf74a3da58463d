"""The network of an `[agent]` for the spaces of its tasks: its layers, and their place in the flat parameter
vector. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from actorq.learning.agent import Agent

from .declaration import (
    Conv,
    Head,
    Layer,
    LayerGroup,
    PlacedLayer,
    Residual,
    group_layers,
    least_side,
    place_layers,
)


class TaskSpaces(Protocol):
    """Shapes of a task's environment that determine its network."""

    @property
    def observation_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def actions(self) -> int: ...


def has_convolution(layers: Iterable[Layer]) -> bool:
    """Whether the network has a convolution, which needs torch."""
    return any(
        isinstance(layer, Conv) or (isinstance(layer, Residual) and has_convolution(layer.layers))
        for layer in layers
    )


def network_problem(agent: Agent, observation_shape: Sequence[int]) -> str | None:
    """The reason why a declared network doesn't support such observations; None if it does, and for a custom
    network.
    """
    if agent.custom:
        return None
    side = least_side(agent.layers)
    if side and not (len(observation_shape) == 3 and min(observation_shape[1:]) >= side):
        name = agent.network if isinstance(agent.network, str) else "the network"
        return (
            f"{name} takes pictures [channels, height, width] (or grey ones, stacked), height and width at"
            f" least {side}; the observations are {list(observation_shape)}"
        )
    try:
        place_layers(agent.layers, Head(1, 1, agent.dueling), tuple(observation_shape))
    except ValueError as error:
        return str(error)
    return None


def network_layers(agent: Agent, observation_shape: Sequence[int], actions: int) -> list[PlacedLayer]:
    """The layers of a declared network for one task, its head last.

    Raises ValueError for a custom network, and for one that doesn't support such observations.
    """
    if agent.custom:
        raise ValueError(f"{agent.network!r} is made for one task: several share a built-in network")
    problem = network_problem(agent, observation_shape)
    if problem is not None:
        raise ValueError(problem)
    head = Head(actions, agent.outputs_per_action, agent.dueling)
    return place_layers(agent.layers, head, tuple(observation_shape))


def task_groups(agent: Agent, task: TaskSpaces) -> list[LayerGroup]:
    """The layers in groups, each with one that has parameters: `convolutions.0`, …, `hidden.0`, …, and at
    last `output` or, both streams together, `dueling`.
    """
    return group_layers(network_layers(agent, task.observation_shape, task.actions))


def shared_from(groups: Sequence[LayerGroup]) -> int:
    """Number of groups before the shared ones: all up to the first hidden layer.

    Raises ValueError if nothing is left to share.
    """
    hidden = [index for index, group in enumerate(groups) if group.name.startswith("hidden.")]
    if len(hidden) < 2:
        raise ValueError("tasks share all hidden layers but the first: agent.hidden must have two or more")
    return hidden[0] + 1
