"""Measured time of each layer of a Q-network."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_layers
from actorq.learning.networks.flat import FlatParameters
from actorq.learning.networks.module import NetworkModule
from actorq.learning.networks.spec import TaskSpaces

from .partition import layer_groups

ROUNDS = 5


def layer_seconds(agent: Agent, tasks: Sequence[TaskSpaces], rows: int) -> list[float]:
    """Seconds of each layer for `rows` transitions of every task, forward three times and backward once.

    On the CPU; the best of some rounds. Has one layer in memory at a time.
    """
    dtype = getattr(torch, agent.dtype)
    inputs = [torch.rand(rows, *task.observation_shape, dtype=dtype) for task in tasks]
    counts = [rows] * len(tasks)
    seconds = []
    for number in range(len(layer_groups(agent, tasks))):
        layers = make_layers(agent, tasks, 0, number, number + 1)
        FlatParameters(layers, dtype)  # gives them gradients
        rounds = [_round(layers, inputs, counts, first=number == 0) for _ in range(ROUNDS)]
        seconds.append(min(took for took, _ in rounds))
        inputs = rounds[-1][1]
    return seconds


def _round(
    layers: NetworkModule, inputs: Sequence[Tensor], rows: Sequence[int], *, first: bool
) -> tuple[float, list[Tensor]]:
    began = time.perf_counter()
    with torch.no_grad():
        for _ in range(2):
            layers(inputs, rows)
    outputs = layers([tensor.requires_grad_(not first) for tensor in inputs], rows)
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return time.perf_counter() - began, [output.detach() for output in outputs]
