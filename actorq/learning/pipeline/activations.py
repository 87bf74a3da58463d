"""Tensors sent between the parts of a partitioned network. Free of torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Tensors = tuple[NDArray[Any], ...]
"""One tensor between layers; before a network of several tasks, and after it, one for each task."""


class Activations(msgspec.Struct, frozen=True):
    """A micro-batch between two parts of the network, [rows, …].

    Of the last three those that the algorithm doesn't need are empty.
    """

    now: Tensors
    """Of s_t, in the online network: a gradient comes back for it."""
    online_next: Tensors
    """Of s_{t+n}, in the online network."""
    target_next: Tensors
    """Of s_{t+n}, in the target network."""
    target_now: Tensors
    """Of s_t, in the target network."""

    @property
    def streams(self) -> tuple[Tensors, ...]:
        """All four."""
        return (self.now, self.online_next, self.target_next, self.target_now)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for stream in self.streams for array in stream)


class Outcomes(msgspec.Struct, frozen=True):
    """One task's part of a micro-batch, without its states; each [rows]."""

    actions: NDArray[Any]
    returns: NDArray[Any]
    discounts: NDArray[Any]
    weights: NDArray[Any]


def join_columns(made: Sequence[Activations]) -> Activations:
    """Concatenate the columns that several stages computed from the same inputs."""
    if len(made) == 1:
        return made[0]
    return Activations(*map(join_outputs, zip(*(one.streams for one in made), strict=True)))


def join_outputs(made: Sequence[Tensors]) -> Tensors:
    """The same for one network."""
    if len(made) == 1:
        return made[0]
    return tuple(np.concatenate(columns, axis=1) for columns in zip(*made, strict=True))


def split_columns(gradients: Tensors, shares: Sequence[slice]) -> list[Tensors]:
    """The columns of each share."""
    return [tuple(np.ascontiguousarray(array[:, share]) for array in gradients) for share in shares]


def add_up(partial: Sequence[Tensors]) -> Tensors:
    """The sum of the shares' contributions to the inputs' gradient."""
    return tuple(functools.reduce(np.add, arrays) for arrays in zip(*partial, strict=True))
