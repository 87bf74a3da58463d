"""Prioritized sampling: Schaul et al., "Prioritized Experience Replay", arXiv 1511.05952."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actorq.replay.chunk import LARGEST_PRIORITY

from .index import IdWindow, check_ids


class PrioritizedIndex:
    """Draws ids in proportion to priority: P(i) = p_i^alpha / sum_k p_k^alpha, p_i = |delta_i| + epsilon.

    That is equation 1 of the paper. Callers use raw priorities |delta| and ids only: alpha and epsilon are
    applied here, once, to first and later priorities alike. The values are in a sum tree, in float64; each
    sum is recomputed from its parts when one changes, so that sums never drift.
    """

    def __init__(self, capacity: int, *, alpha: float = 0.6, epsilon: float = 1e-6) -> None:
        """``capacity``: most ids held at a time. ``alpha`` in 0..1 (0 is uniform); ``epsilon`` > 0."""
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is {alpha}; it must be from 0 (uniform) to 1 (proportional)")
        if not 1e-30 <= epsilon <= 1e30:
            raise ValueError(f"epsilon is {epsilon}; it must be small but positive, such as 1e-6")
        from . import kernels

        self._kernels = kernels
        self.alpha = alpha
        self.epsilon = epsilon
        self._window = IdWindow(capacity)
        self._offsets = _level_offsets(capacity, kernels.WIDTH)
        self._tree = _aligned_zeros(int(self._offsets[-1]) + 1)

    def __len__(self) -> int:
        """Ids held."""
        return len(self._window)

    @property
    def total(self) -> float:
        """Sum of p^alpha over all ids held."""
        return float(self._tree[-1])

    @property
    def largest(self) -> float:
        """Largest p^alpha held, 0 if none is; reads all of them."""
        return float(self._tree[: self._window.capacity].max())

    @property
    def nbytes(self) -> int:
        """Bytes allocated: a little over nine for each id."""
        return self._tree.nbytes

    def add(self, ids: range, priorities: ArrayLike) -> None:
        """Add ``ids``, which follow those added before, with their raw ``priorities`` [len(ids)].

        Raises `ValueError`, and changes nothing, if a priority is NaN, infinite or negative, if ids aren't
        consecutive, or if they don't fit (`remove` comes first).
        """
        raw = np.ascontiguousarray(priorities, np.float64)
        if raw.shape != (len(ids),):
            _check_priorities(raw, len(ids))
        self._window.extend(ids)
        if self._update(np.arange(ids.start, ids.stop, dtype=np.int64), raw) < 0:
            self._window.stop = ids.start
            _check_priorities(raw, len(ids))

    def remove(self, ids: range) -> None:
        """Remove ``ids``, the oldest held. Raises `ValueError` if they aren't."""
        self._window.retract(ids)
        self._assign(ids.start, np.zeros(len(ids)))

    def update(self, ids: NDArray[np.int64], priorities: ArrayLike) -> int:
        """Set new raw ``priorities`` [n] of ``ids`` [n]; returns how many were late: for ids since removed.

        Late ones are ignored. If an id occurs twice its last priority counts. Raises `ValueError`, and
        changes nothing, if a priority is NaN, infinite or negative or an id was never added.
        """
        raw = np.ascontiguousarray(priorities, np.float64)
        if ids.dtype != np.int64 or ids.ndim != 1 or raw.shape != ids.shape:
            check_ids(ids, raw, self._window)
        late = self._update(np.ascontiguousarray(ids), raw)
        if late < 0:  # only now find out what is wrong
            check_ids(ids, raw, self._window)
            _check_priorities(raw, len(ids))
        return late

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw ``count`` ids, with replacement; returns them and the probability P(i) of each, both [count].

        Stratified as in the paper's appendix B.2.1: one draw from each of ``count`` equal parts of the total.
        An id is expected ``count * P(i)`` times in a batch, as with independent draws, at lower variance.
        Raises `ValueError` if nothing is held.
        """
        if not len(self._window):
            raise ValueError("there is nothing to sample: the replay is empty")
        ids = np.empty(count, np.int64)
        probabilities = np.empty(count, np.float64)
        self._kernels.draw(
            self._tree,
            self._offsets,
            self._window.capacity,
            self._window.first,
            rng.random(count),
            ids,
            probabilities,
        )
        return ids, probabilities

    def state(self) -> dict[str, Any]:
        """The complete state: numbers, and p^alpha of the ids held, oldest first."""
        return {
            "kind": "prioritized",
            "alpha": self.alpha,
            "epsilon": self.epsilon,
            "first_id": self._window.first,
            "values": self._tree[self._window.slots(self._window.ids)],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `state`. Raises `ValueError`, and changes nothing, if it doesn't fit this
        index.
        """
        for name, mine in (("kind", "prioritized"), ("alpha", self.alpha), ("epsilon", self.epsilon)):
            if state[name] != mine:
                raise ValueError(f"the saved index has {name} = {state[name]!r}, this one {mine!r}")
        values = np.array(state["values"], np.float64)
        if values.ndim != 1 or not (np.isfinite(values) & (values > 0.0)).all():
            raise ValueError("the saved index holds values that are not finite and positive")
        window = IdWindow(self._window.capacity, first=state["first_id"])
        window.extend(range(window.first, window.first + len(values)))
        self._window = window
        self._tree[:] = 0.0
        self._assign(window.first, values)

    def _assign(self, first: int, values: NDArray[np.float64]) -> None:
        self._kernels.assign(self._tree, self._offsets, self._window.capacity, first, values)

    def _update(self, ids: NDArray[np.int64], raw: NDArray[np.float64]) -> int:
        window = self._window
        return self._kernels.update(
            self._tree,
            self._offsets,
            window.capacity,
            window.first,
            window.stop,
            ids,
            raw,
            self.epsilon,
            self.alpha,
        )


def importance_weights(probabilities: NDArray[np.float64], beta: float) -> NDArray[np.float32]:
    """w_i = (N P(i))^-beta, divided by the largest of the batch: [B] in float32, the largest 1.

    Schaul et al., section 3.4; the maximum is over the batch as in DeepMind's code, not over the buffer,
    where one tiny priority would shrink every loss. N cancels: w_i = (min_k P(k) / P(i))^beta.
    ``probabilities`` [B] are those with which the items were actually drawn; ``beta`` in 0..1.
    """
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"beta is {beta}; it must be from 0 (no correction) to 1 (full)")
    weights: NDArray[np.float64] = np.minimum.reduce(probabilities) / probabilities
    np.power(weights, beta, out=weights)
    return weights.astype(np.float32)


def _check_priorities(raw: NDArray[np.float64], count: int) -> None:
    if raw.shape != (count,):
        raise ValueError(f"priorities have shape {raw.shape} for {count} ids; there must be one for each")
    wrong = ~((raw >= 0.0) & (raw <= LARGEST_PRIORITY))  # true of NaN too
    if wrong.any():
        raise ValueError(f"a priority is {raw[wrong][0]}; it must be |TD error|: finite and not negative")


def _level_offsets(leaves: int, width: int) -> NDArray[np.int64]:
    """Offset of each level of the tree, from the leaves to the root; levels are padded to whole nodes."""
    offsets = [0]
    count = leaves
    while count > 1 or len(offsets) == 1:
        padded = -(-count // width) * width
        offsets.append(offsets[-1] + padded)
        count = padded // width
    return np.array(offsets, np.int64)


def _aligned_zeros(count: int) -> NDArray[np.float64]:
    """Zeros aligned to a cache line of 64 bytes, so that no node crosses one."""
    raw = np.zeros(count * 8 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * 8].view(np.float64)
