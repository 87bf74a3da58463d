"""A worker's gradient as the shards get it: in slices, each encoded by an encoder of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actorq.actors import State
from actorq.learning.distributed.encoded import Codec, Encoded
from actorq.learning.distributed.sharding import shard_slices

if TYPE_CHECKING:
    from torch import Tensor


class GradientSlices:
    """Encodes the slices of one gradient vector, as it then stands, for each of so many shards.

    What `top_k` keeps back goes into the next gradient. A state may be asked for while another thread
    encodes.
    """

    def __init__(self, gradient: Tensor, shards: int, codec: Codec, top_k_share: float) -> None:
        self._slices = [gradient[part] for part in shard_slices(gradient.numel(), shards)]
        self._codec, self._top_k_share = codec, top_k_share
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Drop what was kept back: it comes from gradients that are of no use any more."""
        from actorq.learning.distributed.codecs import Encoder

        self._encoders = [
            Encoder(self._codec, slice.numel(), dtype=slice.dtype, top_k_share=self._top_k_share)
            for slice in self._slices
        ]

    def encode(self) -> list[Encoded]:
        """One for each shard, in memory of their own."""
        with self._lock:
            return [encoder(slice) for encoder, slice in zip(self._encoders, self._slices, strict=True)]

    def give_back(self, encoded: Sequence[Encoded]) -> None:
        """Keep what was sent but not applied, as far as the codec keeps anything; once each."""
        for encoder, slice in zip(self._encoders, encoded, strict=True):
            encoder.give_back(slice)

    def state(self) -> State:
        with self._lock:
            return {"codec": self._codec, "kept_back": [encoder.state() for encoder in self._encoders]}

    def load_state(self, state: State) -> None:
        """Go on from a `state`; one of another codec or of other shards is dropped."""
        if state["codec"] == self._codec and len(state["kept_back"]) == len(self._encoders):
            for encoder, kept_back in zip(self._encoders, state["kept_back"], strict=True):
                encoder.load_state(kept_back)
