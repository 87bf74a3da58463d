"""Forward and backward passes through consecutive layers, several micro-batches at a time, gradients adding
up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from actorq.learning.networks.module import NetworkModule, dense_layers


class Passed(NamedTuple):
    """A micro-batch after its forward pass."""

    now: list[Tensor]
    """Outputs for the rows that are learned from."""
    later: list[Tensor]
    """Outputs for the other rows; empty without any."""
    held: list[Tensor]
    """Tensors needed for the backward pass."""
    kept: list[Tensor]
    """All tensors kept in memory for it, parameters among them."""


class StagePass(Protocol):
    """Layers that can be run forward and backward. Call its methods under `torch.no_grad`."""

    def forward(self, now: list[Tensor], later: list[Tensor], rows: Sequence[int]) -> Passed:
        """`rows`: number of each task's rows."""

    def backward(self, held: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Add to the parameters' gradients; returns those of the inputs, if they are needed."""


def make_segment_pass(layers: NetworkModule, *, inputs: bool) -> StagePass:
    """The written-out pass for fully connected layers, autograd for all others.

    `inputs`: whether the gradient of the inputs is needed.
    """
    dense = dense_layers(layers.trunk)
    if dense and not layers.encoders and not layers.heads:
        return DensePass(dense, inputs)
    return AutogradStagePass(layers, inputs)


class AutogradStagePass:
    """Any layers, by autograd."""

    def __init__(self, layers: NetworkModule, inputs: bool) -> None:
        self._layers = layers
        self._inputs = inputs

    def forward(self, now: list[Tensor], later: list[Tensor], rows: Sequence[int]) -> Passed:
        after = self._layers(later, rows) if later else []
        inputs = [tensor.detach().requires_grad_(self._inputs) for tensor in now]
        saved: list[Tensor] = []
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(partial(_note, saved), _itself):
            outputs = self._layers(inputs, rows)
        held = [*inputs, *outputs]
        return Passed([output.detach() for output in outputs], after, held, [*held, *saved])

    def backward(self, held: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        count = len(gradients)
        before, outputs = held[:-count], held[-count:]
        torch.autograd.backward(outputs, gradients)
        return [tensor.grad for tensor in before if tensor.grad is not None]


class DensePass:
    """Fully connected layers, each with a ReLU or without, the gradient written out as in `MLPBackend`.

    Both kinds of rows are computed in one product, and each weight's gradient is added in place: autograd
    would make a matrix as large as the weights for every micro-batch.
    """

    def __init__(self, layers: Sequence[tuple[nn.Linear, bool]], inputs: bool) -> None:
        """`layers`: each with whether a ReLU follows."""
        self._layers, self._inputs = layers, inputs
        self._shape = torch.Size()

    def forward(self, now: list[Tensor], later: list[Tensor], rows: Sequence[int]) -> Passed:
        learned, self._shape = now[0].shape[0], now[0].shape[1:]
        x = torch.cat([*now, *later]).flatten(1) if later else now[0].flatten(1)
        held = [x[:learned]]
        for layer, rectified in self._layers:
            x = torch.addmm(layer.bias, x, layer.weight.t())
            if rectified:
                x.relu_()
            held.append(x[:learned])
        return Passed([x[:learned]], [x[learned:]] if later else [], held, held)

    def backward(self, held: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        (gradient,) = gradients
        for number in reversed(range(len(self._layers))):
            layer, rectified = self._layers[number]
            if rectified:  # what came out of a ReLU is positive where it let its input through
                gradient = gradient * held[number + 1].sign()
            assert layer.weight.grad is not None
            assert layer.bias.grad is not None
            layer.weight.grad.addmm_(gradient.t(), held[number])
            layer.bias.grad.add_(gradient.sum(0))
            if number or self._inputs:
                gradient = gradient.mm(layer.weight)
        return [gradient.view(-1, *self._shape)] if self._inputs else []


def _note(saved: list[Tensor], tensor: Tensor) -> Tensor:
    saved.append(tensor)
    return tensor


def _itself(tensor: Tensor) -> Tensor:
    return tensor
