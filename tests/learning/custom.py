"""A user's own module: Q-networks that a topology names as `tests.learning.custom:Class`."""

import torch
from torch import Tensor, nn


class Tanh(nn.Module):
    """A Q-network as the contract wants it."""

    def __init__(self, observation_shape: tuple[int, ...], actions: int) -> None:
        super().__init__()
        self.hidden = nn.LazyLinear(7)
        self.output = nn.Linear(7, actions)

    def forward(self, observations: Tensor) -> Tensor:
        q_values: Tensor = self.output(torch.tanh(self.hidden(observations.flatten(1))))
        return q_values


class Forgetful(Tanh):
    """Drops most of what it is given, while it learns."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(torch.nn.functional.dropout(observations, 0.9, self.training))


class OneValue(nn.Module):
    """Gives one number per observation instead of one per action."""

    def __init__(self, observation_shape: tuple[int, ...], actions: int) -> None:
        super().__init__()
        self.output = nn.LazyLinear(1)

    def forward(self, observations: Tensor) -> Tensor:
        q_values: Tensor = self.output(observations.flatten(1))
        return q_values


class NoModule:
    """Is not a module at all."""

    def __init__(self, observation_shape: tuple[int, ...], actions: int) -> None:
        self.actions = actions


NOT_CALLABLE = 3
