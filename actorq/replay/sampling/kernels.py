"""The loops of the prioritized index, compiled by numba.

They work on a sum tree: leaf ``id % capacity`` holds (priority + epsilon)^alpha, each inner node the sum of
its eight children, in one array level after level from the leaves (``offsets[0]``) to the root
(``offsets[-1]``).

Importing this module imports numba and compiles, or loads from numba's cache on disk, so only
`PrioritizedIndex` does, when the first one is made. Signatures are explicit: nothing compiles in mid-run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from actorq.replay.chunk import LARGEST_PRIORITY

SHIFT = 3
WIDTH = 1 << SHIFT  # eight float64 fill one cache line

_F = TypeVar("_F", bound=Callable[..., Any])

_floats = types.Array(types.float64, 1, "C")
_ints = types.Array(types.int64, 1, "C")
_read_floats = types.Array(types.float64, 1, "C", readonly=True)  # takes arrays that are writable too
_read_ints = types.Array(types.int64, 1, "C", readonly=True)
_void, _int, _float = types.void, types.int64, types.float64


def _compiled(result: Any, *arguments: Any) -> Callable[[_F], _F]:
    signature = result(*arguments)

    def decorate(function: _F) -> _F:
        try:
            return cast(_F, njit(signature, cache=True)(function))
        except RuntimeError:  # no writable folder for numba's cache: compile for this process only
            return cast(_F, njit(signature)(function))

    return decorate


_inlined = cast(Callable[[_F], _F], njit)  # compiled as part of its callers


@_inlined
def _sum_up(tree: NDArray[np.float64], offsets: NDArray[np.int64], leaves: NDArray[np.int64]) -> None:
    """Recompute the sum of every node above ``leaves`` from its children.

    Sums are never adjusted by differences: rounding errors would add up over time.
    """
    for level in range(1, offsets.size):
        done = -1
        for i in range(leaves.size):
            node = leaves[i] >> (SHIFT * level)
            if node == done:  # peers share their parents
                continue
            done = node
            child = offsets[level - 1] + (node << SHIFT)
            total = 0.0
            for k in range(WIDTH):
                total += tree[child + k]
            tree[offsets[level] + node] = total


@_compiled(_int, _floats, _read_ints, _int, _int, _int, _read_ints, _read_floats, _float, _float)
def update(
    tree: NDArray[np.float64],
    offsets: NDArray[np.int64],
    capacity: int,
    first: int,
    stop: int,
    ids: NDArray[np.int64],
    priorities: NDArray[np.float64],
    epsilon: float,
    alpha: float,
) -> int:
    """Set the raw priorities of ``ids``, in the order given; returns how many lie before ``first``: not set.

    Returns -1, and changes nothing, if a priority is NaN, infinite or negative or an id not in 0..stop-1.
    """
    for i in range(ids.size):
        if not 0.0 <= priorities[i] <= LARGEST_PRIORITY or not 0 <= ids[i] < stop:
            return -1
    first_leaf = first % capacity
    leaves = np.empty(ids.size, np.int64)
    alive = 0
    for i in range(ids.size):
        age = ids[i] - first
        if age >= 0:
            leaf = first_leaf + age
            if leaf >= capacity:
                leaf -= capacity
            tree[leaf] = (priorities[i] + epsilon) ** alpha
            leaves[alive] = leaf
            alive += 1
    _sum_up(tree, offsets, leaves[:alive])
    return ids.size - alive


@_compiled(_void, _floats, _read_ints, _int, _int, _read_floats)
def assign(
    tree: NDArray[np.float64],
    offsets: NDArray[np.int64],
    capacity: int,
    first: int,
    values: NDArray[np.float64],
) -> None:
    """Set the leaves of consecutive ids from ``first`` on to ``values`` as they are."""
    leaves = np.empty(values.size, np.int64)
    for i in range(values.size):
        leaves[i] = (first + i) % capacity
        tree[leaves[i]] = values[i]
    _sum_up(tree, offsets, leaves)


@_inlined
def _sweep(
    tree: NDArray[np.float64],
    start: int,
    width: int,
    total: float,
    uniforms: NDArray[np.float64],
    nodes: NDArray[np.int64],
    rest: NDArray[np.float64],
) -> None:
    """Find the node that contains each target, and the offset in it, among ``width`` nodes from ``start``
    on.
    """
    last = width - 1
    while last > 0 and tree[start + last] == 0.0:  # rounding must not carry a target beyond the last share
        last -= 1
    node = 0
    before = 0.0
    for i in range(uniforms.size):
        target = (i + uniforms[i]) * total / uniforms.size
        while node < last and before + tree[start + node] <= target:
            before += tree[start + node]
            node += 1
        nodes[i] = node
        rest[i] = target - before


@_inlined
def _descend(
    tree: NDArray[np.float64], start: int, nodes: NDArray[np.int64], rest: NDArray[np.float64]
) -> None:
    """Descend from each node to the child that contains its target; the children's level begins at
    ``start``.
    """
    for i in range(nodes.size):
        child = start + (nodes[i] << SHIFT)
        target = rest[i]
        passed = 0
        before = 0.0
        until = 0.0
        for k in range(WIDTH):
            until += tree[child + k]
            over = until <= target
            passed += over
            before = until if over else before
        if passed == WIDTH:  # rounding again: take the last child that has a share
            passed = WIDTH - 1
            while passed > 0 and tree[child + passed] == 0.0:
                passed -= 1
            before = target
        rest[i] = target - before
        nodes[i] = (nodes[i] << SHIFT) + passed


@_compiled(_void, _floats, _read_ints, _int, _int, _read_floats, _ints, _floats)
def draw(
    tree: NDArray[np.float64],
    offsets: NDArray[np.int64],
    capacity: int,
    first: int,
    uniforms: NDArray[np.float64],
    ids: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> None:
    """Draw one id from each of ``uniforms.size`` equal strata of the total; ``first`` is the oldest id held.

    The targets rise from stratum to stratum, so one sweep finds all their nodes in a level about as wide as
    the batch; from there they go down level by level, without branches inside a node. They don't depend on
    each other, so the processor overlaps their cache misses. (One draw after the other took three times as
    long.)
    """
    count = uniforms.size
    level = offsets.size - 1
    total = tree[offsets[level]]
    width = 1
    while level > 0 and offsets[level] - offsets[level - 1] <= 2 * count:
        width = offsets[level] - offsets[level - 1]
        level -= 1
    rest = np.empty(count)
    _sweep(tree, offsets[level], width, total, uniforms, ids, rest)
    while level > 0:
        level -= 1
        _descend(tree, offsets[level], ids, rest)
    first_leaf = first % capacity
    for i in range(count):
        leaf = ids[i]
        probabilities[i] = tree[leaf] / total
        ids[i] = first - first_leaf + leaf + (capacity if leaf < first_leaf else 0)
