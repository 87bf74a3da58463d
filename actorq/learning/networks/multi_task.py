"""One Q-network for several tasks: an encoder and a head for each, and a trunk that all share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from actorq.learning.agent import Agent

from .networks import MLP, MinAtarCNN, NatureCNN, join_streams


class Head(nn.Module):
    """From the trunk's output [N, width] to Q-values [N, actions]; dueling as in `MLP`."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.dueling = network.dueling
        if self.dueling:
            self.value, self.advantage = network.value, network.advantage
        else:
            self.output = network.output

    def forward(self, features: Tensor) -> Tensor:
        if not self.dueling:
            return self.output(features)  # type: ignore[no-any-return]
        return join_streams(self.value, self.advantage, features)


class MultiTaskNetwork(nn.Module):
    """The encoder is a task's network up to its first hidden layer, the trunk the other hidden layers, the
    head what follows them.

    So for one task it is an ordinary network of `[agent]`; `TaskLayout` says where in the flat vector that
    one's parameters are.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Of each task its own network, all with the same hidden layers; the first one's are the trunk.

        Raises ValueError where there is nothing to share: hidden layers are fewer than two.
        """
        super().__init__()
        heads = [_mlp(network) for network in networks]
        if len(heads[0].hidden) < 2:
            raise ValueError(
                "tasks share all hidden layers but the first: agent.hidden must have two or more"
            )
        self.encoders = nn.ModuleList(_encoder(network) for network in networks)
        self.trunk = nn.Sequential()
        for layer in list(heads[0].hidden)[1:]:
            self.trunk.extend([layer, nn.ReLU()])
        self.heads = nn.ModuleList(map(Head, heads))

    def forward(self, observations: Sequence[Tensor | None]) -> list[Tensor]:
        """Q-values [N, actions] of each task's observations; [0, 0] where there are none (None)."""
        encoded = [
            None if seen is None else encoder(seen)
            for encoder, seen in zip(self.encoders, observations, strict=True)
        ]
        present = [features for features in encoded if features is not None]
        parts = iter(self.trunk(torch.cat(present)).split([len(features) for features in present]))
        none = torch.zeros(0, 0)
        return [
            none if features is None else head(next(parts))
            for head, features in zip(self.heads, encoded, strict=True)
        ]


def make_multi_task_network(
    agent: Agent, observation_shapes: Sequence[Sequence[int]], actions: Sequence[int]
) -> MultiTaskNetwork:
    """Initial weights are drawn from torch's generator. Raises ValueError for networks that don't fit."""
    return MultiTaskNetwork(
        [make_built_in(agent, shape, count) for shape, count in zip(observation_shapes, actions, strict=True)]
    )


def make_built_in(
    agent: Agent, observation_shape: Sequence[int], actions: int
) -> MLP | NatureCNN | MinAtarCNN:
    """One task's network, for all that `[agent] network` names but the user's own."""
    shape, hidden = tuple(observation_shape), agent.hidden_widths
    if agent.network == "nature_cnn":
        return NatureCNN(shape, hidden, actions, dueling=agent.dueling)
    if agent.network == "minatar_cnn":
        return MinAtarCNN(shape, hidden, actions, dueling=agent.dueling)
    if agent.network == "mlp":
        return MLP(torch.Size(shape).numel(), hidden, actions, dueling=agent.dueling)
    raise ValueError(f"{agent.network!r} is made for one task: several share a built-in network")


def _mlp(network: nn.Module) -> MLP:
    found = network if isinstance(network, MLP) else network.head
    assert isinstance(found, MLP)
    return found


def _encoder(network: nn.Module) -> nn.Sequential:
    first = _mlp(network).hidden[0]
    if isinstance(network, NatureCNN):
        before: list[nn.Module] = list(network.convolutions)
    elif isinstance(network, MinAtarCNN):
        before = [network.convolution, nn.ReLU()]
    else:
        before = []
    return nn.Sequential(*before, nn.Flatten(), first, nn.ReLU())
