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


def join_columns(made: Sequence[Activations]) -> Activations:
    """What several stages made of the same inputs, side by side."""
    if len(made) == 1:
        return made[0]

    return Activations(
        join_outputs([one.now for one in made]),
        join_outputs([one.later for one in made]),
        join_outputs([one.target for one in made]),
    )


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
