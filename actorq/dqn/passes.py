"""Forward and backward through a Q-network, the gradient going straight into the flat gradient buffer."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from actorq.dqn.flat import FlatParameters
from actorq.dqn.networks import MLP


class Pass(Protocol):
    """A network that can be run in both directions. Call its methods under `torch.no_grad`."""

    def evaluate(self, observations: Tensor) -> Tensor:
        """Q-values [N, actions]; a forward pass that waits for its backward pass is left alone."""

    def forward(self, observations: Tensor, learned: int) -> Tensor:
        """Q-values [N, actions] without a graph; keeps what `backward` needs of the first `learned` rows."""

    def backward(self, output_gradient: Tensor) -> None:
        """Overwrite the flat gradient, given dL/dQ [learned, actions] of the last `forward`.

        Raises RuntimeError without a `forward` of its own: each is good for one `backward`.
        """


def make_pass(parameters: FlatParameters) -> Pass:
    """The written-out pass for a plain MLP, autograd for every other network."""
    module = parameters.module
    if type(module) is MLP and not module.dueling:
        return MLPPass(module)
    return AutogradPass(parameters)


class AutogradPass:
    """Any module, by autograd."""

    def __init__(self, parameters: FlatParameters) -> None:
        self._module = parameters.module
        self._gradient = parameters.gradient
        self._output: Tensor | None = None

    def evaluate(self, observations: Tensor) -> Tensor:
        q_values: Tensor = self._module(observations)
        return q_values

    def forward(self, observations: Tensor, learned: int) -> Tensor:
        with torch.enable_grad():
            self._output = self._module(observations[:learned])
        q_values = self._output.detach()
        if learned == len(observations):
            return q_values
        return torch.cat([q_values, self.evaluate(observations[learned:])])

    def backward(self, output_gradient: Tensor) -> None:
        if self._output is None:
            raise RuntimeError("a backward pass needs a forward pass of its own")
        output, self._output = self._output, None
        self._gradient.zero_()  # autograd adds to what is there
        torch.autograd.backward(output, output_gradient)


class MLPPass:
    """A plain MLP with its gradient written out: on small networks about half the time of autograd.

    Each weight's gradient is one product, written where it belongs: no graph, no zeroing, no adding up.
    The formulas are backpropagation's (Rumelhart, Hinton & Williams 1986); the tests hold them to autograd's.
    """

    def __init__(self, network: MLP) -> None:
        layers = network.layers()
        self._weights = [layer.weight.detach() for layer in layers]
        self._transposed = [weight.t() for weight in self._weights]
        self._biases = [layer.bias.detach() for layer in layers]
        self._weight_gradients = [layer.weight.grad for layer in layers]
        self._bias_gradients = [layer.bias.grad for layer in layers]
        self._inputs: list[Tensor] = []

    def evaluate(self, observations: Tensor) -> Tensor:
        return self._run(observations)[1]

    def forward(self, observations: Tensor, learned: int) -> Tensor:
        inputs, output = self._run(observations)
        self._inputs = [layer_input[:learned] for layer_input in inputs]
        return output

    def backward(self, output_gradient: Tensor) -> None:
        if not self._inputs:
            raise RuntimeError("a backward pass needs a forward pass of its own")
        inputs, self._inputs = self._inputs, []
        gradient = output_gradient
        for layer in reversed(range(len(inputs))):
            torch.mm(gradient.t(), inputs[layer], out=self._weight_gradients[layer])
            torch.sum(gradient, 0, out=self._bias_gradients[layer])
            if layer > 0:
                # What comes out of a ReLU has sign 1 where it let its input through, else 0; used up here.
                gradient = gradient.mm(self._weights[layer]).mul_(inputs[layer].sign_())

    def _run(self, observations: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each layer's input, and the last one's output."""
        inputs = [observations.flatten(1)]
        last = len(self._biases) - 1
        for layer in range(last):
            inputs.append(torch.addmm(self._biases[layer], inputs[layer], self._transposed[layer]).relu_())
        return inputs, torch.addmm(self._biases[last], inputs[last], self._transposed[last])
