"""Construction of the Q-network that an `Agent` names, with initial weights determined by its seed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import nn

from actorq.learning.agent import Agent

from .custom import load_network_class
from .declaration import LayerGroup
from .flat import FlatParameters
from .module import NetworkModule, make_network_module
from .observations import observation_scale
from .spec import TaskSpaces

_global_generator = threading.Lock()
"""Stages of one process make their parts in threads."""


def make_network(
    agent: Agent, observation_shape: Sequence[int], observation_dtype: DTypeLike, actions: int, seed: int
) -> nn.Module:
    """The Q-network of one task, on the CPU and in float32: [B, *observation_shape] to outputs [B, outputs].

    `outputs` is `actions` times the algorithm's `outputs_per_action`, those of one action side by side. It
    takes observations as floating-point numbers, bytes already scaled to 0..1 (`observation_scale`). Initial
    weights are torch's own initialization drawn from `seed`; torch's global generator is unchanged.

    A custom network, `package.module:Class`, is called as `Class(observation_shape, outputs)` and must return
    such an `nn.Module`; it is tried once on a batch of two zeros.

    Raises ValueError if network and observations do not fit, or the custom class cannot be used.
    """
    observation_scale(observation_dtype)
    shape = tuple(observation_shape)
    if not agent.custom:
        spaces = _Spaces(shape, np.dtype(observation_dtype), actions)
        return make_network_module(agent, [spaces], seed).trunk
    assert isinstance(agent.network, str)
    with _global_generator, torch.random.fork_rng(devices=[]):
        # Networks are made on the CPU: torch.manual_seed would seed every CUDA device as well.
        torch.default_generator.manual_seed(seed)
        return _make_custom(agent.network, shape, actions * agent.outputs_per_action)


class _Spaces(NamedTuple):
    observation_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    actions: int


def make_parameters(
    agent: Agent,
    observation_shape: Sequence[int],
    observation_dtype: DTypeLike,
    actions: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> FlatParameters:
    """`make_network`, flattened in the agent's dtype on a device. Raises ValueError as both do."""
    network = make_network(agent, observation_shape, observation_dtype, actions, seed)
    return FlatParameters(network, getattr(torch, agent.dtype), device)


def make_task_parameters(
    agent: Agent, spaces: Sequence[TaskSpaces], seed: int, device: torch.device | str = "cpu"
) -> FlatParameters:
    """The parameters of a network for these tasks, one or several; see `NetworkModule` and `TaskLayout`.

    Raises ValueError as `make_parameters` does, and for tasks that can't share a network.
    """
    if len(spaces) == 1:
        (only,) = spaces
        return make_parameters(agent, only.observation_shape, only.dtype, only.actions, seed, device)
    network = make_network_module(agent, spaces, seed)
    return FlatParameters(network, getattr(torch, agent.dtype), device)


def _make_custom(path: str, observation_shape: tuple[int, ...], outputs: int) -> nn.Module:
    network = load_network_class(path)(observation_shape, outputs)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network {path!r} made a {type(network).__name__}, not a torch.nn.Module")
    with torch.no_grad():
        made = network(torch.zeros(2, *observation_shape))
    if not isinstance(made, torch.Tensor) or made.shape != (2, outputs):
        answer = list(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
        raise ValueError(
            f"network {path!r} must turn observations {[2, *observation_shape]} into Q-values {[2, outputs]},"
            f" one row per observation and one column per action; it gave {answer}"
        )
    return network


def custom_children(agent: Agent, task: TaskSpaces, seed: int) -> dict[str, nn.Sequential]:
    """The children of a custom network by name: those with parameters, each with those without that follow
    it, the first with all before it. Raises ValueError for a network that is no nn.Sequential."""
    network = make_network(agent, task.observation_shape, task.dtype, task.actions, seed)
    if not isinstance(network, nn.Sequential):
        raise ValueError(
            f"{agent.network!r} can't be cut: a custom network has to be an nn.Sequential, and it is a"
            f" {type(network).__name__}"
        )
    found: dict[str, nn.Sequential] = {}
    before: list[nn.Module] = []
    for name, child in network.named_children():
        if any(True for _ in child.parameters()):
            found[name] = nn.Sequential(*before, child)
            before = []
        elif found:
            list(found.values())[-1].append(child)
        else:
            before.append(child)
    return found


def custom_groups(agent: Agent, task: TaskSpaces) -> list[LayerGroup]:
    """The layer groups of a custom network. Raises ValueError as `custom_children`."""
    return [
        LayerGroup(name, (), tuple(tuple(parameter.shape) for parameter in child.parameters()))
        for name, child in custom_children(agent, task, seed=0).items()
    ]


def make_layers(agent: Agent, tasks: Sequence[TaskSpaces], seed: int, begin: int, end: int) -> NetworkModule:
    """The layer groups from `begin` to before `end` of a network for these tasks, with the weights of the
    whole network of this seed.

    A custom network is made as a whole first. On the CPU and in float32. Raises ValueError as
    `make_network_module` and `custom_children`.
    """
    if not agent.custom:
        return make_network_module(agent, tasks, seed, begin, end)
    network = NetworkModule()
    network.trunk.extend(list(custom_children(agent, tasks[0], seed).values())[begin:end])
    return network
