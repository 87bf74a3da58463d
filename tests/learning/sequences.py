"""Networks of a user's own that a topology can cut, and one that it can't."""

import math

from torch import nn


class Sequence(nn.Sequential):
    """Layers by name, some of them without parameters."""

    def __init__(self, observation_shape: tuple[int, ...], actions: int) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.first = nn.Linear(math.prod(observation_shape), 7)
        self.tanh = nn.Tanh()
        self.norm = nn.LayerNorm(7)
        self.second = nn.Linear(7, 6)
        self.relu = nn.ReLU()
        self.output = nn.Linear(6, actions)
