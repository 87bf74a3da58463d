"""What both sides of a flat parameter vector agree on, torch's and numpy's. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from actorq.learning.agent import Agent


def observation_scale(dtype: DTypeLike) -> float:
    """What observations are multiplied by before a network sees them.

    Bytes are pictures and are scaled to 0..1 (Mnih et al. 2015 divide by 255); everything else is taken as it
    is. Raises ValueError for a dtype that holds no real numbers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise ValueError(
            f"observations of dtype {dtype} are no numbers; a Q-network takes bool, int or float"
        )
    return 1.0 / 255.0 if dtype == np.uint8 else 1.0


_CONVOLUTIONS = {
    "nature_cnn": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    "minatar_cnn": ((16, 3, 1),),
}
"""Filters, kernel and stride of each."""

_LEAST_SIDES = {"nature_cnn": 36, "minatar_cnn": 3}


def picture_problem(network: str, observation_shape: Sequence[int]) -> str | None:
    """Why a convolutional network can't take such observations; None if it can, and for all others."""
    least = _LEAST_SIDES.get(network)
    if least is None or (len(observation_shape) == 3 and min(observation_shape[1:]) >= least):
        return None
    return (
        f"{network} takes pictures [channels, height, width] (or grey ones, stacked), height and width at"
        f" least {least}; the observations are {list(observation_shape)}"
    )


def mlp_shapes(agent: Agent, inputs: int, actions: int) -> list[tuple[int, ...]]:
    """Shapes of an MLP's parameters, (outputs, inputs) and (outputs,) by turns, in the order of the flat
    vector.

    A dueling MLP's last hidden layer is twice as wide (both streams in one product); the value layer
    and the advantage layer end the list.
    """
    widths = list(agent.hidden_widths)
    heads = [actions]
    if agent.dueling:
        stream = widths[-1]
        widths[-1], heads = 2 * stream, [1, actions]
    shapes: list[tuple[int, ...]] = []
    for width in widths:
        shapes += [(width, inputs), (width,)]
        inputs = width
    for outputs in heads:
        shapes += [(outputs, stream if agent.dueling else inputs), (outputs,)]
    return shapes


def network_shapes(agent: Agent, observation_shape: Sequence[int], actions: int) -> list[tuple[int, ...]]:
    """Shapes of a built-in network's parameters in the order of the flat vector. ValueError for others."""
    if agent.network == "mlp":
        return mlp_shapes(agent, math.prod(observation_shape), actions)
    if agent.custom:
        raise ValueError(f"{agent.network!r} is made for one task: several share a built-in network")
    problem = picture_problem(agent.network, observation_shape)
    if problem is not None:
        raise ValueError(problem)
    channels, *sides = observation_shape
    shapes: list[tuple[int, ...]] = []
    for filters, kernel, stride in _CONVOLUTIONS[agent.network]:
        shapes += [(filters, channels, kernel, kernel), (filters,)]
        channels, sides = filters, [(side - kernel) // stride + 1 for side in sides]
    return shapes + mlp_shapes(agent, channels * math.prod(sides), actions)


def size(shapes: Sequence[tuple[int, ...]]) -> int:
    """How many numbers the shapes hold together."""
    return sum(math.prod(shape) for shape in shapes)
