"""What travels between the parts of a network that is cut. Free of torch."""

from __future__ import annotations

from typing import Any

import msgspec
from numpy.typing import NDArray

Tensors = tuple[NDArray[Any], ...]
"""One between layers; before a network of several tasks, and after it, one for each task."""


class Activations(msgspec.Struct, frozen=True):
    """A micro-batch where it crosses from one part of the network to the next, [rows, …]."""

    now: Tensors
    """Of s_t, in the online network: a gradient comes back for it."""
    later: Tensors
    """Of s_{t+n}, in the online network, which chooses the action; empty without double Q-learning."""
    target: Tensors
    """Of s_{t+n}, in the target network."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for stream in (self.now, self.later, self.target) for array in stream)


class Outcomes(msgspec.Struct, frozen=True):
    """One task's share of a micro-batch, but for its states; each [rows]."""

    actions: NDArray[Any]
    returns: NDArray[Any]
    discounts: NDArray[Any]
    weights: NDArray[Any]
