"""Division of a flat vector into slices, one for each shard of a parameter server."""

from __future__ import annotations

from itertools import pairwise


def shard_slices(size: int, shards: int) -> tuple[slice, ...]:
    """`shards` slices of a vector [size], in order, whose sizes differ by one at most.

    Raises ValueError if there are fewer numbers than shards.
    """
    if shards > size:
        raise ValueError(f"{size} parameters can't be divided among {shards} shards")
    edges = [size * shard // shards for shard in range(shards + 1)]
    return tuple(slice(start, stop) for start, stop in pairwise(edges))
