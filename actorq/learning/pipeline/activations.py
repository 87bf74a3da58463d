"""What travels between the parts of a network that is cut. Free of torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Tensors = tuple[NDArray[Any], ...]
"""One between layers; before a network of several tasks, and after it, one for each task."""


class Activations(msgspec.Struct, frozen=True):
    """A micro-batch where it crosses from one part of the network to the next, [rows, …].

    Of the last three those are empty that the algorithm doesn't need.
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
    """One task's share of a micro-batch, but for its states; each [rows]."""

    actions: NDArray[Any]
    returns: NDArray[Any]
    discounts: NDArray[Any]
    weights: NDArray[Any]


def join_columns(made: Sequence[Activations]) -> Activations:
    """What several stages made of the same inputs, side by side."""
    if len(made) == 1:
        return made[0]
    return Activations(*map(join_outputs, zip(*(one.streams for one in made), strict=True)))


def join_outputs(made: Sequence[Tensors]) -> Tensors:
    """The same of one network alone."""
    if len(made) == 1:
        return made[0]
    return tuple(np.concatenate(columns, axis=1) for columns in zip(*made, strict=True))


def split_columns(gradients: Tensors, shares: Sequence[slice]) -> list[Tensors]:
    """Of each share its columns."""
    return [tuple(np.ascontiguousarray(array[:, share]) for array in gradients) for share in shares]


def add_up(partial: Sequence[Tensors]) -> Tensors:
    """The sum of what each share of the columns adds to the inputs' gradient."""
    return tuple(functools.reduce(np.add, arrays) for arrays in zip(*partial, strict=True))
