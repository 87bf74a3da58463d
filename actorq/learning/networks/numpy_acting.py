"""Policies: Q-values for acting from a flat vector of weights, without torch if there is no convolution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from actorq.learning.agent import Agent

from .declaration import Head, LayerNorm, Linear, PlacedLayer, Residual, Shape, size
from .observations import observation_scale
from .spec import has_convolution, network_layers


class Policy(Protocol):
    """A Q-network that only acts.

    All policies of one network agree: Q-values differ by at most 1e-5 * max(1, |Q|) in float32, so greedy
    actions can differ only where the two best Q-values lie closer than twice that.
    """

    @property
    def size(self) -> int:
        """Number of the network's parameters."""

    def load(self, vector: NDArray[Any]) -> None:
        """Copy the network's flat parameters, [size]. Raises ValueError for another size."""

    def q_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Q-values [B, actions] of observations [B, *observation_shape]; read them before the next call.

        Raises ValueError for observations of another shape.
        """


def needs_torch(agent: Agent, device: str) -> bool:
    """Whether `make_policy` uses torch: for a custom network, for convolutions, and on a CUDA device."""
    return agent.custom or has_convolution(agent.layers) or device not in ("auto", "cpu")


def make_policy(
    agent: Agent,
    observation_shape: Sequence[int],
    observation_dtype: DTypeLike,
    actions: int,
    device: str = "auto",
) -> Policy:
    """The policy for the network, in numpy or in torch: see `needs_torch`.

    Its parameters are zero until `load`. Raises ValueError as `make_network` and `resolve_device` do.
    """
    if not needs_torch(agent, device):
        return NumpyPolicy(agent, observation_shape, observation_dtype, actions)
    from .torch_acting import TorchPolicy

    return TorchPolicy(agent, observation_shape, observation_dtype, actions, device)


class NumpyPolicy:
    """A declared network without convolutions in numpy; for a batch of 16 and layers of 128, a third of
    torch's time or less.

    Weights are kept transposed, as the products read them fastest. OpenBLAS splits larger products over
    threads, which beside a busy processor took over ten times as long: set OPENBLAS_NUM_THREADS=1 before
    numpy is imported where other work runs on the same cores.
    """

    def __init__(
        self, agent: Agent, observation_shape: Sequence[int], observation_dtype: DTypeLike, actions: int
    ) -> None:
        if needs_torch(agent, "cpu"):
            raise ValueError(
                f"NumpyPolicy evaluates fully connected layers; the network is {agent.network!r}"
            )
        self._scale = observation_scale(observation_dtype)
        self._observation_shape = tuple(observation_shape)
        self._inputs = math.prod(self._observation_shape)
        self._algorithm = agent.make_algorithm()
        self._outputs = (actions, self._algorithm.outputs_per_action)
        self._dtype = np.dtype(agent.dtype)
        self._layers = [
            _make_layer(placed, self._dtype) for placed in network_layers(agent, observation_shape, actions)
        ]
        self._parameters = [array for layer in self._layers for array in layer.parameters]
        self.size = size([array.shape for array in self._parameters])
        self._input = np.empty((0, self._inputs), self._dtype)

    def load(self, vector: NDArray[Any]) -> None:
        if vector.shape != (self.size,):
            raise ValueError(f"the network has {self.size} parameters; the vector is {list(vector.shape)}")
        start = 0
        for array in self._parameters:
            end = start + array.size
            array[...] = vector[start:end].reshape(array.shape)
            start = end

    def q_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        if observations.shape[1:] != self._observation_shape:
            raise ValueError(
                f"observations must be [B, *{self._observation_shape}], not {observations.shape}"
            )
        batch = len(observations)
        if batch != len(self._input):
            self._input = np.empty((batch, self._inputs), self._dtype)
        x = self._input
        flat = observations.reshape(batch, self._inputs)
        if self._scale == 1.0:
            np.copyto(x, flat, casting="same_kind")
        else:
            np.multiply(flat, self._scale, out=x, dtype=x.dtype, casting="same_kind")
        for layer in self._layers:
            x = layer(x)
        return self._algorithm.q_values(x.reshape(batch, *self._outputs))


class _ActingLayer(ABC):
    parameters: Sequence[NDArray[Any]] = ()
    """Views in the order and with the shapes of the flat vector."""

    @abstractmethod
    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Outputs [B, outputs] of inputs [B, inputs], which may be overwritten; good until the next call."""


class _Product(_ActingLayer):
    """x W + b, its output kept from one call to the next."""

    def __init__(self, shapes: Sequence[Shape], dtype: np.dtype[Any]) -> None:
        (outputs, inputs), _ = shapes
        self._weight, self._bias = np.zeros((inputs, outputs), dtype), np.zeros(outputs, dtype)
        self.parameters = (self._weight.T, self._bias)
        self._output = np.empty((0, outputs), dtype)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        if len(x) != len(self._output):
            self._output = np.empty((len(x), len(self._bias)), self._bias.dtype)
        y = self._output
        np.dot(x, self._weight, out=y)
        y += self._bias
        return y


class _HalfProduct(_Product):
    """The same for a half of the columns of an array, which `dot` with an output does not take."""

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        product: NDArray[Any] = x @ self._weight + self._bias
        return product


class _Relu(_ActingLayer):
    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        np.maximum(x, 0.0, out=x)
        return x


class _Dueling(_ActingLayer):
    """Both streams, see `Head`."""

    def __init__(self, head: Head, shapes: Sequence[Shape], dtype: np.dtype[Any]) -> None:
        self._head = head
        self._value, self._advantage = _HalfProduct(shapes[:2], dtype), _HalfProduct(shapes[2:], dtype)
        self.parameters = (*self._value.parameters, *self._advantage.parameters)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        stream = x.shape[1] // 2
        value, advantages = self._value(x[:, :stream]), self._advantage(x[:, stream:])
        by_action = advantages.reshape(len(x), self._head.actions, self._head.per_action)
        by_action -= by_action.mean(axis=1, keepdims=True)
        by_action += value[:, None]
        return advantages


class _LayerNorm(_ActingLayer):
    def __init__(self, shapes: Sequence[Shape], dtype: np.dtype[Any]) -> None:
        self.parameters = tuple(np.zeros(shape, dtype) for shape in shapes)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        scale, shift = self.parameters
        centered = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centered).mean(axis=1, keepdims=True)
        normalized: NDArray[Any] = (
            centered / np.sqrt(variance + x.dtype.type(1e-5)) * scale.ravel() + shift.ravel()
        )
        return normalized


class _Residual(_ActingLayer):
    def __init__(self, layers: Sequence[_ActingLayer]) -> None:
        self._layers = layers
        self.parameters = [array for layer in layers for array in layer.parameters]

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        y = x.copy()
        for layer in self._layers:
            y = layer(y)
        y += x
        return y


def _make_layer(placed: PlacedLayer, dtype: np.dtype[Any]) -> _ActingLayer:
    layer, shapes = placed.layer, placed.parameters
    if isinstance(layer, Linear) or (isinstance(layer, Head) and not layer.dueling):
        return _Product(shapes, dtype)
    if isinstance(layer, Head):
        return _Dueling(layer, shapes, dtype)
    if isinstance(layer, LayerNorm):
        return _LayerNorm(shapes, dtype)
    if isinstance(layer, Residual):
        return _Residual([_make_layer(inner, dtype) for inner in placed.inner])
    return _Relu()
