"""Transition ids: one int64 that packs shard, incarnation of the shard's actor, and a counter.

Bits 52..62 are the shard's number in the replay, bits 40..51 the incarnation, bits 0..39 the counter. The
shard makes an id once; clients find the shard of an id in its upper bits and never change it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_INCARNATION_BIT, _SHARD_BIT = 40, 52


def id_offset(incarnation: int) -> int:
    """Offset of the counter, so that another incarnation of the same shard assigns other ids."""
    return incarnation << _INCARNATION_BIT


def shard_offset(shard: int) -> int:
    """Offset of a shard's own ids, which are below 2**52, for the clients of several shards."""
    return shard << _SHARD_BIT


def shards_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers [n] of the shards that hold ``ids`` [n]."""
    return ids >> _SHARD_BIT


def without_shard(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """A shard's own ids [n]: those of its counter and incarnation."""
    return ids & ((1 << _SHARD_BIT) - 1)
