"""References to sampled transitions whose data are in Redis."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from .config import Place


class SampleRefs(msgspec.Struct, frozen=True, eq=False, tag=True):
    """B transitions drawn from one replay shard, without their data; `RedisReader.read` makes a `Sample`."""

    ids: NDArray[np.int64]
    """[B] ids of the transitions."""
    probabilities: NDArray[np.float64]
    """[B] probability of each transition, at each draw from this shard."""
    chunks: NDArray[np.int64]
    """[B] names of the chunks that contain them; unique, and a chunk never changes."""
    rows: NDArray[np.int32]
    """[B] row of each transition within its chunk."""
    place: Place
    """Present location of the shard's chunks."""

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.ids)
