"""Transitions as structs of arrays: a `Chunk` is inserted, a `Sample` drawn, a `Batch` trained on.

A chunk stores each observation ("frame") once and refers to it by row number, so that stacked and n-step
experience costs about one frame a transition. `n_step` computes the returns of its transitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

LARGEST_PRIORITY = float(np.finfo(np.float32).max)
"""Largest priority: priorities are absolute TD errors in float32, so a larger one is an error of its
sender.
"""

_ONE_BITS = int(np.float32(1.0).view(np.uint32))
_LARGEST_BITS = int(np.float32(LARGEST_PRIORITY).view(np.uint32))
_INT32, _INT64, _FLOAT32 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float32)


class Chunk(msgspec.Struct, frozen=True, eq=False):
    """N transitions (s_t, a_t, R, D, s_{t+n}) whose observations are rows of one array of F frames.

    The learning target of a transition is ``R + D * Q(s_{t+n})``: the explorer computes the n-step return and
    the product of discounts, and D = 0 marks a window that ended in termination.
    """

    frames: NDArray[Any]
    """[F, *frame_shape], in the environment's own dtype; each observation of the chunk once."""
    index: NDArray[np.int32]
    """[N, stack] rows of ``frames`` that make s_t, oldest first."""
    next_index: NDArray[np.int32]
    """[N, stack] rows of ``frames`` that make s_{t+n}, oldest first."""
    actions: NDArray[np.int64]
    """[N] the action taken in s_t."""
    returns: NDArray[np.float32]
    """[N] n-step return R."""
    discounts: NDArray[np.float32]
    """[N] product of discounts D, within 0..1; 0 where the window ended in termination."""
    priorities: NDArray[np.float32]
    """[N] raw first priorities |TD error|: neither alpha nor epsilon is applied yet."""

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.actions)

    def check(self) -> None:
        """Raise `ValueError`, naming the field and what it should be, unless the chunk is well formed."""
        if self.index.ndim != 2 or 0 in self.index.shape:
            raise ValueError(
                f"chunk: index has shape {self.index.shape}; it must be [transitions, stack], not empty"
            )
        shape, rows = self.index.shape, self.index.shape[:1]
        for field, dtype, expected in (
            ("index", _INT32, shape),
            ("next_index", _INT32, shape),
            ("actions", _INT64, rows),
            ("returns", _FLOAT32, rows),
            ("discounts", _FLOAT32, rows),
            ("priorities", _FLOAT32, rows),
        ):
            array = getattr(self, field)
            if array.dtype != dtype or array.shape != expected:
                raise ValueError(
                    f"chunk: {field} is {array.dtype} of shape {array.shape};"
                    f" it must be {dtype} of shape {expected}"
                )
        if self.frames.ndim == 0 or self.frames.dtype.kind not in "biuf":
            raise ValueError(
                f"chunk: frames has dtype {self.frames.dtype} and shape {self.frames.shape};"
                " it must be an array of numbers [frames, *frame_shape]"
            )
        _expect_rows("index", self.index, len(self.frames))
        _expect_rows("next_index", self.next_index, len(self.frames))
        _expect_finite("returns", self.returns)
        _expect_within("discounts", self.discounts, 1.0, _ONE_BITS)
        _expect_within("priorities", self.priorities, LARGEST_PRIORITY, _LARGEST_BITS)
        if self.frames.dtype.kind == "f":
            _expect_finite("frames", self.frames)


class Sample(msgspec.Struct, frozen=True, eq=False, tag=True):
    """B transitions drawn from one replay shard. obs_shape is frame_shape if stack is 1, else
    (stack, *frame_shape)."""

    ids: NDArray[np.int64]
    """[B] ids of the transitions (see `replay.ids`): never assigned again, so updates by id are safe."""
    probabilities: NDArray[np.float64]
    """[B] probability of each transition, at each draw."""
    observations: NDArray[Any]
    """[B, *obs_shape] s_t, in the environment's own dtype."""
    actions: NDArray[np.int64]
    """[B] a_t."""
    returns: NDArray[np.float32]
    """[B] n-step return R."""
    discounts: NDArray[np.float32]
    """[B] product of discounts D; 0 where the window ended in termination."""
    next_observations: NDArray[Any]
    """[B, *obs_shape] s_{t+n}, in the environment's own dtype."""

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.ids)


class Batch(Sample, frozen=True, eq=False):
    """A training batch of B transitions: samples of all shards, joined and weighted.

    Its probabilities are those over all shards.
    """

    weights: NDArray[np.float32]
    """[B] importance weights, at most 1 (all 1 where sampling was uniform)."""

    @classmethod
    def of(cls, sample: Sample, weights: NDArray[np.float32]) -> Batch:
        """The sample with its importance weights [B]. No array is copied."""
        return cls(**structs.asdict(sample), weights=weights)

    def split(self, parts: int) -> list[Batch]:
        """Split into `parts` batches, each of every `parts`-th transition, as views.

        A stratified draw is ordered by id, so each part covers its whole range.
        """
        if parts == 1:
            return [self]
        fields = [getattr(self, name) for name in self.__struct_fields__]
        return [Batch(*(field[part::parts] for field in fields)) for part in range(parts)]


def join(samples: Sequence[Sample]) -> Sample:
    """Concatenate the samples. A single sample is returned as it is, others are copied."""
    if len(samples) == 1:
        return samples[0]
    fields = Sample.__struct_fields__
    return Sample(*(np.concatenate([getattr(sample, name) for sample in samples]) for name in fields))


def _expect_rows(field: str, index: NDArray[np.int32], rows: int) -> None:
    # As unsigned numbers negative rows are huge: a single pass finds rows below 0 and beyond the end.
    if np.maximum.reduce(index.view(np.uint32), axis=None) >= rows:
        wrong = index[(index < 0) | (index >= rows)][0]
        raise ValueError(f"chunk: {field} points to row {wrong} of frames, which has rows 0..{rows - 1}")


def _expect_within(field: str, values: NDArray[np.float32], high: float, high_bits: int) -> None:
    # As bits, floats from 0 on are in order, and -0.0, negative ones and NaN lie above: one pass for all.
    if np.maximum.reduce(values.view(np.uint32)) > high_bits:
        wrong = values[~((values >= 0.0) & (values <= high))]
        if wrong.size:
            raise ValueError(f"chunk: {field} holds {wrong[0]}; its values must be from 0 to {high:g}")


def _expect_finite(field: str, values: NDArray[Any]) -> None:
    finite = np.isfinite(values)
    if np.count_nonzero(finite) < values.size:
        raise ValueError(f"chunk: {field} holds {values[~finite][0]}; its values must be finite")


class NStep(NamedTuple):
    """One window per environment step, [T, E]; the target is `returns + discounts * Q(s_{t+length})`."""

    returns: NDArray[np.float32]
    """Sum over k < length of (the product of the discounts before k) * reward k."""
    discounts: NDArray[np.float32]
    """Product of the window's discounts; 0 if it ended in termination."""
    length: NDArray[np.int32]
    """Environment steps in the window, 1..n."""
    complete: NDArray[np.bool_]
    """False where the block ended first: fewer than n steps, and no end of an episode among them."""


def n_step(rewards: NDArray[Any], discounts: NDArray[Any], ends: NDArray[np.bool_], n: int) -> NStep:
    """The n-step window that starts at each of T steps of E environments.

    rewards [T, E]: reward of the step; discounts [T, E]: gamma, or 0 where the step terminated the episode;
    ends [T, E]: the episode ended with this step, by termination or truncation, and no window passes it.

    A truncated window keeps its discounts, gamma^length, and bootstraps from the true last observation;
    a terminated one has discount 0. Near an end windows are shorter than n; near the end of the block they
    are not complete, and belong to a later call. Sums are made in float64.

    Sutton & Barto 2018, equation 7.1, with a discount per step as in the DQN Zoo (Quan & Ostrovski 2020).
    Raises ValueError for n < 1 and for shapes that differ.
    """
    if n < 1:
        raise ValueError(f"an n-step return sums at least one reward; got n = {n}")
    if not (rewards.ndim == 2 and rewards.shape == discounts.shape == ends.shape):
        raise ValueError(
            "rewards, discounts and ends must be [T, E] alike;"
            f" got {rewards.shape}, {discounts.shape} and {ends.shape}"
        )
    total = np.zeros(rewards.shape)
    product = np.ones(rewards.shape)
    length = np.zeros(rewards.shape, np.int32)
    open_ = np.ones(rewards.shape, np.bool_)
    steps = len(rewards)
    for k in range(min(n, steps)):
        # Rows 0 .. steps - k - 1 have a step k ahead of them inside the block.
        here, ahead = slice(0, steps - k), slice(k, steps)
        total[here] += np.where(open_[here], product[here] * rewards[ahead], 0.0)
        product[here] *= np.where(open_[here], discounts[ahead], 1.0)
        length[here] += open_[here]
        open_[here] &= ~ends[ahead]
    return NStep(total.astype(np.float32), product.astype(np.float32), length, ~open_ | (length == n))
