"""Processing of gradients before they are pushed: outliers are filtered, slices encoded."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from actorq.actors import State
from actorq.learning.distributed.encoded import Codec, Encoded
from actorq.learning.distributed.sharding import shard_slices

if TYPE_CHECKING:
    from torch import Tensor


WARM_UP = 100
"""Losses that make the first mean; none of them is an outlier."""


class GradientSlices:
    """Encodes the current contents of a gradient vector in slices, one for each shard.

    Entries that `top_k` leaves out are added to the next gradient. `state` may be called while another thread
    encodes.
    """

    def __init__(self, gradient: Tensor, shards: int, codec: Codec, top_k_share: float) -> None:
        self._slices = [gradient[part] for part in shard_slices(gradient.numel(), shards)]
        self._codec, self._top_k_share = codec, top_k_share
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Drop the entries left out so far: they were computed from parameters that no longer exist."""
        from actorq.learning.distributed.codecs import Encoder

        self._encoders = [
            Encoder(self._codec, slice.numel(), dtype=slice.dtype, top_k_share=self._top_k_share)
            for slice in self._slices
        ]

    def encode(self) -> list[Encoded]:
        """Encode the slice of each shard, in new memory."""
        with self._lock:
            return [encoder(slice) for encoder, slice in zip(self._encoders, self._slices, strict=True)]

    def give_back(self, encoded: Sequence[Encoded]) -> None:
        """Add slices that were sent but not applied to the next gradient, if the codec can; once each."""
        for encoder, slice in zip(self._encoders, encoded, strict=True):
            encoder.give_back(slice)

    def state(self) -> State:
        with self._lock:
            return {"codec": self._codec, "kept_back": [encoder.state() for encoder in self._encoders]}

    def load_state(self, state: State) -> None:
        """Restore a `state`; one of another codec or number of shards is dropped."""
        if state["codec"] == self._codec and len(state["kept_back"]) == len(self._encoders):
            for encoder, kept_back in zip(self._encoders, state["kept_back"], strict=True):
                encoder.load_state(kept_back)


class OutlierFilter:
    """Filters batches whose loss is too far above its running mean (Gorila, arXiv 1507.04296, section 4).

    Mean and deviation are those of the first 100 losses, then decay exponentially, by 1 % with each further
    one. An outlier is included as if it were just at the bound: a single one, however large, moves the bound
    little, and losses that stay high are soon no outliers any more.
    """

    def __init__(self, deviations: float | None) -> None:
        """`deviations`: standard deviations from the mean to the bound, 2 or more; None: no bound."""
        self._deviations = math.inf if deviations is None else deviations
        self._count = 0
        self._mean = 0.0
        self._variance = 0.0

    def is_outlier(self, loss: float) -> bool:
        """Compare a finite loss with those before it, and include it in the statistics."""
        outlier = False
        if self._count >= WARM_UP and math.isfinite(self._deviations) and self._variance > 0.0:
            bound = self._mean + self._deviations * math.sqrt(self._variance)
            outlier = loss > bound
            loss = min(loss, bound)
        self._count += 1
        weight = 1.0 / min(self._count, WARM_UP)
        distance = loss - self._mean
        self._mean += weight * distance
        self._variance = (1.0 - weight) * (self._variance + weight * distance * distance)
        return outlier

    def state(self) -> dict[str, Any]:
        return {"count": self._count, "mean": self._mean, "variance": self._variance}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._count, self._mean, self._variance = state["count"], state["mean"], state["variance"]
