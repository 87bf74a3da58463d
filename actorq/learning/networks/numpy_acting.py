"""Q-values for acting: from the newest weights, a flat vector, without torch where the network is an MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from actorq.learning.agent import Agent

from .spec import mlp_shapes, observation_scale, size


class Policy(Protocol):
    """A Q-network that only acts.

    All policies of one network agree: Q-values differ by at most 1e-5 * max(1, |Q|) in float32, so greedy
    actions can differ only where the two best Q-values lie closer than twice that.
    """

    @property
    def size(self) -> int:
        """How many parameters the network has."""

    def load(self, vector: NDArray[Any]) -> None:
        """Take over a copy of the network's flat parameters, [size]. Raises ValueError for another size."""

    def q_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Q-values [B, actions] of observations [B, *observation_shape]; read them before the next call.

        Raises ValueError for observations of another shape.
        """


def needs_torch(agent: Agent, device: str) -> bool:
    """Whether `make_policy` acts through torch: for all but an MLP for which no CUDA device is named."""
    return agent.network != "mlp" or device not in ("auto", "cpu")


def make_policy(
    agent: Agent,
    observation_shape: Sequence[int],
    observation_dtype: DTypeLike,
    actions: int,
    device: str = "auto",
) -> Policy:
    """The policy that suits the network, in numpy or in torch: see `needs_torch`.

    Its parameters are zero until `load`. Raises ValueError as `make_network` and `resolve_device` do.
    """
    if not needs_torch(agent, device):
        return NumpyPolicy(agent, observation_shape, observation_dtype, actions)
    from .torch_acting import TorchPolicy

    return TorchPolicy(agent, observation_shape, observation_dtype, actions, device)


class NumpyPolicy:
    """An MLP, dueling or not, in numpy; for a batch of 16 and layers of 128, a third of torch's time or less.

    Weights are kept transposed, as the products read them fastest. OpenBLAS splits larger products over
    threads, which beside a busy processor took over ten times as long: set OPENBLAS_NUM_THREADS=1 before
    numpy is imported where other work runs on the same cores.
    """

    def __init__(
        self, agent: Agent, observation_shape: Sequence[int], observation_dtype: DTypeLike, actions: int
    ) -> None:
        if agent.network != "mlp":
            raise ValueError(f"NumpyPolicy evaluates an mlp; the network is {agent.network!r}")
        self._scale = observation_scale(observation_dtype)
        self._observation_shape = tuple(observation_shape)
        self._inputs = math.prod(self._observation_shape)
        self._dueling = agent.dueling
        self._shapes = mlp_shapes(agent, self._inputs, actions)
        self.size = size(self._shapes)
        self._dtype = np.dtype(agent.dtype)
        self._weights = [np.zeros(shape[::-1], self._dtype) for shape in self._shapes[0::2]]
        self._biases = [np.zeros(shape, self._dtype) for shape in self._shapes[1::2]]
        self._hidden = len(agent.hidden_widths)
        self._allocate(1)

    def load(self, vector: NDArray[Any]) -> None:
        if vector.shape != (self.size,):
            raise ValueError(f"the network has {self.size} parameters; the vector is {list(vector.shape)}")
        start = 0
        for index, shape in enumerate(self._shapes):
            end = start + math.prod(shape)
            part = vector[start:end].reshape(shape)
            if index % 2 == 0:
                self._weights[index // 2][...] = part.T
            else:
                self._biases[index // 2][...] = part
            start = end

    def q_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        if observations.shape[1:] != self._observation_shape:
            raise ValueError(
                f"observations must be [B, *{self._observation_shape}], not {observations.shape}"
            )
        batch = len(observations)
        if batch != self._batch:
            self._allocate(batch)
        x = self._input
        flat = observations.reshape(batch, self._inputs)
        if self._scale == 1.0:
            np.copyto(x, flat, casting="same_kind")
        else:
            np.multiply(flat, self._scale, out=x, dtype=x.dtype, casting="same_kind")
        for layer in range(self._hidden):
            x = self._layer(layer, x)
            np.maximum(x, 0.0, out=x)
        if not self._dueling:
            return self._layer(self._hidden, x)
        # `dot` wants whole arrays, and each stream is half of one: plain products, which find their own way.
        stream = x.shape[1] // 2
        value = x[:, :stream] @ self._weights[-2] + self._biases[-2]
        advantages = x[:, stream:] @ self._weights[-1] + self._biases[-1]
        advantages -= advantages.mean(axis=1, keepdims=True)
        advantages += value
        return advantages

    def _layer(self, layer: int, x: NDArray[Any]) -> NDArray[Any]:
        y = np.dot(x, self._weights[layer], out=self._outputs[layer])
        y += self._biases[layer]
        return y

    def _allocate(self, batch: int) -> None:
        self._batch = batch
        self._input = np.empty((batch, self._inputs), self._dtype)
        self._outputs = [np.empty((batch, bias.size), self._dtype) for bias in self._biases]
