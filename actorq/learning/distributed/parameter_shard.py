"""Shard of a parameter vector: updated in place, copied for readers and for recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actorq.learning.agent import Agent
from actorq.learning.optimizers import State, make_optimizer

from .codecs import decode, view
from .encoded import Encoded


class Kept(NamedTuple):
    """A version kept for readers. Its arrays are never written again."""

    parameters: NDArray[Any]
    target: NDArray[Any]
    target_updates: int


class Shard:
    """A slice [size] of the online and of the target parameters, and of the optimizer's state.

    The target is updated as in `learning.target`: copied every `target_every_updates` updates of the server
    (Mnih et al. 2015; Nair et al. 2015, arXiv 1507.04296, section 4), or moved by `polyak` after each.
    """

    def __init__(self, agent: Agent, initial: NDArray[Any]) -> None:
        self.vector = torch.from_numpy(np.array(initial))
        self._target = self.vector.clone()
        self._gradient = torch.zeros_like(self.vector)
        self._optimizer = make_optimizer(agent, self.vector, self._gradient)
        self._agent = agent
        self.updates = 0
        self._target_updates = 0
        self._target_kept: NDArray[Any] | None = None

    def combine(self, gradients: list[Tensor], factors: tuple[float, ...]) -> float:
        """Sum gradients, each times its factor, as the next to apply; returns the sum's squared norm."""
        torch.mul(gradients[0], factors[0], out=self._gradient)
        for gradient, factor in zip(gradients[1:], factors[1:], strict=True):
            self._gradient.add_(gradient, alpha=factor)
        return square_norm(self._gradient)

    def apply(self, gradient: Tensor | None, factor: float, step: float) -> None:
        """Make one update, with `factor` times a gradient or the combined one, and `step` times the step
        size.
        """
        self._optimizer.learning_rate = step * self._agent.learning_rate
        if gradient is None:
            if factor != 1.0:
                self._gradient.mul_(factor)
            self._optimizer.step()
        elif factor != 1.0:
            torch.mul(gradient, factor, out=self._gradient)
            self._optimizer.step()
        else:
            self._optimizer.step(gradient)
        self.updates += 1
        self._follow()

    def _follow(self) -> None:
        if self._agent.target_updates(self.updates) != self.updates:
            return
        if self._agent.polyak is not None:
            self._target.lerp_(self.vector, self._agent.polyak)
        else:
            self._target.copy_(self.vector)
        self._target_updates, self._target_kept = self.updates, None

    def keep(self) -> Kept:
        """A copy of the present slice, for readers."""
        if self._target_kept is None:
            self._target_kept = np.array(self._target.numpy())
        return Kept(np.array(self.vector.numpy()), self._target_kept, self._target_updates)

    def state(self) -> State:
        """A copy of the complete state."""
        return {
            "updates": self.updates,
            "parameters": np.array(self.vector.numpy()),
            "target": np.array(self._target.numpy()),
            "target_updates": self._target_updates,
            "optimizer": self._optimizer.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.vector.copy_(torch.from_numpy(np.array(state["parameters"])))
        self._target.copy_(torch.from_numpy(np.array(state["target"])))
        self._optimizer.load_state(state["optimizer"])
        self.updates, self._target_updates = state["updates"], state["target_updates"]
        self._target_kept = None


def decoded(encoded: Encoded, like: Tensor) -> Tensor:
    """A gradient [size] of `like`'s dtype, for reading only. Raises ValueError if its size is another."""
    seen = view(encoded, like)
    if seen is None:
        seen = torch.empty_like(like)
        decode(encoded, seen)
    return seen


def square_norm(gradient: Tensor) -> float:
    """Sum of squares; NaN or infinite exactly if a number of the gradient is."""
    found = float(torch.dot(gradient, gradient))
    if found == float("inf"):  # float32 overflows from 1.8e19 on, where the numbers may still be finite
        found = float(gradient.double().square().sum())
    return found


def compensated(gradient: Tensor, now: Tensor, then: Tensor, strength: float) -> Tensor:
    """The gradient as it would be at `now`, to first order: g + strength * g * g * (now - then).

    The Hessian's diagonal is approximated by g * g (DC-ASGD, Zheng et al. 2017, arXiv 1609.08326, equation
    10).
    """
    return torch.addcmul(gradient, gradient * gradient, now - then, value=strength)
