"""Making the Q-network that an `Agent` names, with initial weights that depend on its seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import DTypeLike
from torch import nn

from actorq.learning.agent import Agent

from .custom import load_network_class
from .flat import FlatParameters
from .multi_task import make_built_in, make_multi_task_network
from .spec import observation_scale
from .task_layout import TaskSpaces


def make_network(
    agent: Agent, observation_shape: Sequence[int], observation_dtype: DTypeLike, actions: int, seed: int
) -> nn.Module:
    """The Q-network, on the CPU and in float32: [B, *observation_shape] to Q-values [B, actions].

    It takes observations as floating-point numbers, bytes already scaled to 0..1 (`observation_scale`).
    Initial weights are torch's own initialisation drawn from `seed`; torch's global generator is left as it
    was.

    A custom network, `package.module:Class`, is called as `Class(observation_shape, actions)` and must give
    such an `nn.Module`; it is tried once on a batch of two zeros.

    Raises ValueError where network and observations do not fit, or where the custom class cannot be used.
    """
    observation_scale(observation_dtype)
    shape = tuple(observation_shape)
    with torch.random.fork_rng(devices=[]):
        # Networks are made on the CPU: torch.manual_seed would seed every CUDA device as well.
        torch.default_generator.manual_seed(seed)
        if agent.custom:
            return _make_custom(agent.network, shape, actions)
        return make_built_in(agent, shape, actions)


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
    """The parameters of a network for these tasks, one or several; see `MultiTaskNetwork` and `TaskLayout`.

    Raises ValueError as `make_parameters` does, and for tasks that can't share a network.
    """
    if len(spaces) == 1:
        (only,) = spaces
        return make_parameters(agent, only.observation_shape, only.dtype, only.actions, seed, device)
    shapes = [task.observation_shape for task in spaces]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = make_multi_task_network(agent, shapes, [task.actions for task in spaces])
    return FlatParameters(network, getattr(torch, agent.dtype), device)


def _make_custom(path: str, observation_shape: tuple[int, ...], actions: int) -> nn.Module:
    network = load_network_class(path)(observation_shape, actions)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network {path!r} made a {type(network).__name__}, not a torch.nn.Module")
    with torch.no_grad():
        q_values = network(torch.zeros(2, *observation_shape))
    if not isinstance(q_values, torch.Tensor) or q_values.shape != (2, actions):
        answer = list(q_values.shape) if isinstance(q_values, torch.Tensor) else type(q_values).__name__
        raise ValueError(
            f"network {path!r} must turn observations {[2, *observation_shape]} into Q-values {[2, actions]},"
            f" one row per observation and one column per action; it gave {answer}"
        )
    return network
