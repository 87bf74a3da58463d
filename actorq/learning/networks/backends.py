"""Backends: forward and backward passes through a Q-network, the gradient written into the flat gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from actorq.learning.compiling import Compile, compiled

from .flat import FlatParameters
from .module import NetworkModule, dense_layers

Inputs = Sequence[Tensor | None]
"""Observations of each task, [N, *observation_shape], or None for a task without any."""


class NetworkBackend(Protocol):
    """A network that can be run forward and backward. Call its methods under `torch.no_grad`."""

    def evaluate(self, observations: Inputs) -> Sequence[Tensor]:
        """Outputs [N, outputs] of each task, [0, outputs] for tasks without observations.

        A pending backward pass is not affected.
        """

    def forward(self, observations: Inputs, learned: Sequence[int]) -> Sequence[Tensor]:
        """As `evaluate`, without a graph; keeps the data that `backward` needs of each task's first `learned`
        rows.
        """

    def backward(self, output_gradients: Inputs) -> None:
        """Overwrite the flat gradient, given each task's dL/d(outputs), [learned, outputs], of the last
        `forward`.

        Raises RuntimeError without a `forward` before: each allows one `backward`.
        """


def make_backend(parameters: FlatParameters, compile: Compile = "off") -> NetworkBackend:
    """The written-out backend for a plain MLP, autograd for every other network and for compiled ones."""
    module = parameters.module
    if isinstance(module, NetworkModule):
        return MultiTaskBackend(parameters, compiled(module, compile))
    layers = dense_layers(module)
    if layers is not None and not layers[-1][1] and compile == "off":
        return MLPBackend(layers)
    return AutogradBackend(parameters, compiled(module, compile))


class AutogradBackend:
    """Any module of one task, by autograd."""

    def __init__(self, parameters: FlatParameters, module: nn.Module) -> None:
        """`module` runs the parameters' network."""
        self._module = module
        self._gradient = parameters.gradient
        self._output: Tensor | None = None

    def evaluate(self, observations: Inputs) -> Sequence[Tensor]:
        return (self._module(_only(observations)),)

    def forward(self, observations: Inputs, learned: Sequence[int]) -> Sequence[Tensor]:
        seen, rows = _only(observations), learned[0]
        with torch.enable_grad():
            self._output = self._module(seen[:rows])
        outputs = self._output.detach()
        if rows == len(seen):
            return (outputs,)
        return (torch.cat([outputs, self._module(seen[rows:])]),)

    def backward(self, output_gradients: Inputs) -> None:
        if self._output is None:
            raise RuntimeError("a backward pass needs a forward pass of its own")
        output, self._output = self._output, None
        self._gradient.zero_()  # autograd adds to what is there
        torch.autograd.backward(output, _only(output_gradients))


class MultiTaskBackend:
    """A network of several tasks, by autograd; their features go through the trunk together."""

    def __init__(self, parameters: FlatParameters, module: nn.Module) -> None:
        """`module` runs the parameters' `NetworkModule`."""
        self._module = module
        self._gradient = parameters.gradient
        self._outputs: Sequence[Tensor] = ()

    def evaluate(self, observations: Inputs) -> Sequence[Tensor]:
        return self._run(observations)

    def forward(self, observations: Inputs, learned: Sequence[int]) -> Sequence[Tensor]:
        now = [None if it is None else it[:rows] for it, rows in zip(observations, learned, strict=True)]
        later = [None if it is None else it[rows:] for it, rows in zip(observations, learned, strict=True)]
        with torch.enable_grad():
            self._outputs = self._run(now)
        outputs = [output.detach() for output in self._outputs]
        if all(it is None or not len(it) for it in later):
            return outputs
        return [torch.cat(both) for both in zip(outputs, self.evaluate(later), strict=True)]

    def backward(self, output_gradients: Inputs) -> None:
        if not self._outputs:
            raise RuntimeError("a backward pass needs a forward pass of its own")
        outputs, self._outputs = self._outputs, ()
        self._gradient.zero_()  # autograd adds to what is there
        pairs = [(it, its) for it, its in zip(outputs, output_gradients, strict=True) if its is not None]
        torch.autograd.backward([it for it, _ in pairs], [its for _, its in pairs])

    def _run(self, observations: Inputs) -> Sequence[Tensor]:
        rows = [0 if seen is None else len(seen) for seen in observations]
        outputs: Sequence[Tensor] = self._module(observations, rows)
        return outputs


def _only(tensors: Inputs) -> Tensor:
    (tensor,) = tensors
    if tensor is None:
        raise ValueError("a network of one task has nothing to learn of no transitions")
    return tensor


class MLPBackend:
    """A plain MLP with its gradient written out: on small networks about half the time of autograd.

    Each weight's gradient is one product, written to its place: no graph, no zeroing, no accumulation. The
    formulas are backpropagation's (Rumelhart, Hinton & Williams 1986); tests compare them with autograd.
    """

    def __init__(self, layers: Sequence[tuple[nn.Linear, bool]]) -> None:
        """`layers`: each with whether a ReLU follows."""
        self._rectified = [rectified for _, rectified in layers]
        self._weights = [layer.weight.detach() for layer, _ in layers]
        self._transposed = [weight.t() for weight in self._weights]
        self._biases = [layer.bias.detach() for layer, _ in layers]
        self._weight_gradients = [layer.weight.grad for layer, _ in layers]
        self._bias_gradients = [layer.bias.grad for layer, _ in layers]
        self._inputs: list[Tensor] = []

    def evaluate(self, observations: Inputs) -> Sequence[Tensor]:
        return (self._run(_only(observations))[-1],)

    def forward(self, observations: Inputs, learned: Sequence[int]) -> Sequence[Tensor]:
        *inputs, output = self._run(_only(observations))
        rows = learned[0]
        self._inputs = [layer_input[:rows] for layer_input in inputs]
        return (output,)

    def backward(self, output_gradients: Inputs) -> None:
        if not self._inputs:
            raise RuntimeError("a backward pass needs a forward pass of its own")
        inputs, self._inputs = self._inputs, []
        gradient = _only(output_gradients)
        for layer in reversed(range(len(inputs))):
            torch.mm(gradient.t(), inputs[layer], out=self._weight_gradients[layer])
            torch.sum(gradient, 0, out=self._bias_gradients[layer])
            if layer > 0:
                gradient = gradient.mm(self._weights[layer])
                if self._rectified[layer - 1]:
                    # What comes out of a ReLU has sign 1 where it let its input through, else 0; used up
                    # here.
                    gradient.mul_(inputs[layer].sign_())

    def _run(self, observations: Tensor) -> list[Tensor]:
        """Each layer's input, and the last one's output."""
        found = [observations.flatten(1)]
        for bias, weight, rectified in zip(self._biases, self._transposed, self._rectified, strict=True):
            output = torch.addmm(bias, found[-1], weight)
            found.append(output.relu_() if rectified else output)
        return found
