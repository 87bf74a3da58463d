"""The built-in Q-networks: observations [B, *observation_shape] to Q-values [B, actions]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from .spec import picture_problem


class MLP(nn.Module):
    """Fully connected layers with ReLU between them; observations are flattened.

    Dueling (Wang et al. 2016, arXiv 1511.06581, equation 9): the last hidden layer is twice as wide, its
    first half the value stream and its second the advantage stream, and Q = V + A - mean(A). Without hidden
    layers Q is linear in the observation, which on one-hot observations is a table.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], actions: int, *, dueling: bool = False) -> None:
        super().__init__()
        if dueling and not hidden:
            raise ValueError("a dueling network splits its last hidden layer in two streams; hidden is empty")
        self.dueling = dueling
        widths = [*hidden[:-1], 2 * hidden[-1]] if dueling else list(hidden)
        self.hidden = nn.ModuleList()
        for width in widths:
            self.hidden.append(nn.Linear(inputs, width))
            inputs = width
        if dueling:
            self.value = nn.Linear(hidden[-1], 1)
            self.advantage = nn.Linear(hidden[-1], actions)
        else:
            self.output = nn.Linear(inputs, actions)

    def layers(self) -> list[nn.Linear]:
        """A plain MLP's layers, in order. Raises ValueError for a dueling one, which forks."""
        if self.dueling:
            raise ValueError("a dueling MLP is no plain sequence of layers")
        return [layer for layer in (*self.hidden, self.output) if isinstance(layer, nn.Linear)]

    def forward(self, observations: Tensor) -> Tensor:
        x = observations.flatten(1)
        for layer in self.hidden:
            x = functional.relu(layer(x))
        if not self.dueling:
            return self.output(x)  # type: ignore[no-any-return]
        return join_streams(self.value, self.advantage, x)


def join_streams(value: nn.Module, advantage: nn.Module, features: Tensor) -> Tensor:
    """Q = V + A - mean(A), each of one half of the features [N, 2 * width]; see `MLP`."""
    value_stream, advantage_stream = features.chunk(2, dim=1)
    advantages: Tensor = advantage(advantage_stream)
    q_values: Tensor = value(value_stream) + advantages - advantages.mean(dim=1, keepdim=True)
    return q_values


class NatureCNN(nn.Module):
    """Three convolutions, then an `MLP`; Mnih et al. 2015 (Methods, "Model architecture") with hidden =
    [512].

    Takes stacked pictures [B, stack, height, width], both sides at least 36, scaled to 0..1.
    """

    def __init__(
        self, observation_shape: Sequence[int], hidden: Sequence[int], actions: int, *, dueling: bool = False
    ) -> None:
        super().__init__()
        _refuse(picture_problem("nature_cnn", observation_shape))
        stack, height, width = observation_shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(stack, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
        )
        self.head = MLP(64 * _nature_side(height) * _nature_side(width), hidden, actions, dueling=dueling)

    def forward(self, observations: Tensor) -> Tensor:
        return self.head(self.convolutions(observations))  # type: ignore[no-any-return]


class MinAtarCNN(nn.Module):
    """One convolution of 16 filters 3x3, then an `MLP`; Young & Tian 2019 (arXiv 1903.03176) with hidden =
    [128].

    Takes pictures [B, channels, height, width], both sides at least 3. MinAtar itself has its channels last;
    `[task] channels` turns them.
    """

    def __init__(
        self, observation_shape: Sequence[int], hidden: Sequence[int], actions: int, *, dueling: bool = False
    ) -> None:
        super().__init__()
        _refuse(picture_problem("minatar_cnn", observation_shape))
        channels, height, width = observation_shape
        self.convolution = nn.Conv2d(channels, 16, 3)
        self.head = MLP(16 * (height - 2) * (width - 2), hidden, actions, dueling=dueling)

    def forward(self, observations: Tensor) -> Tensor:
        features = functional.relu(self.convolution(observations))
        return self.head(features)  # type: ignore[no-any-return]


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ValueError(problem)


def _nature_side(side: int) -> int:
    """A picture's side after the three convolutions."""
    for kernel, stride in ((8, 4), (4, 2), (3, 1)):
        side = (side - kernel) // stride + 1
    return side
