"""Weights sent as differences: a chain of encoded steps that sender and receivers follow bit for bit."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .codecs import decode, encode, numpy_dtype
from .encoded import Encoded, check


class DeltaChain:
    """The vector ŵ that a receiver of encoded differences has, and the last links that lead to it.

    A link is encoded against ŵ, not against the vector before, so ŵ differs from the last vector by that one
    link's error, however long the chain (error feedback, as for gradients). All who start from the same ŵ and
    add the same links have the same bits. The last `keep` links are kept.
    """

    number: int
    """Number of links so far."""

    def __init__(self, first: Tensor, codec: Literal["float16", "int8"], keep: int) -> None:
        self.number = 0
        self._codec = codec
        self._vector = first.detach().clone()
        self._links: deque[Encoded] = deque(maxlen=keep)

    def advance(self, vector: Tensor) -> None:
        """Add a link to this vector. Raises ValueError, with nothing changed, if it is not finite."""
        difference = vector.detach() - self._vector
        if len(difference):
            extremes = difference.aminmax()  # NaN shows in both; a tenth of the time of isfinite().all()
            if not all(map(math.isfinite, extremes)):
                raise ValueError("the weights are not finite, or have moved by more than their dtype holds")
        link = encode(self._codec, difference)
        follow(self._vector, [link])
        self._links.append(link)
        self.number += 1

    @property
    def latest(self) -> Tensor:
        """ŵ, to be sent whole. The chain overwrites it later."""
        return self._vector

    def since(self, number: int, until: int | None = None) -> list[Encoded] | None:
        """The links after link `number`, up to link `until` or the newest; none if these are the same.

        None if they are no longer kept, don't exist yet, or take no fewer bytes than the vector (two of
        float16, four of int8 in float32): then send it whole.
        """
        until = self.number if until is None else until
        oldest = self.number - len(self._links)
        if not oldest <= number <= until <= self.number:
            return None
        links = list(self._links)[number - oldest : until - oldest]
        if links and sum(link.nbytes for link in links) >= self._vector.nbytes:
            return None
        return links


def follow(vector: Tensor, links: Sequence[Encoded]) -> None:
    """Add links, oldest first, to the ŵ from which they start.

    The same bits as the sender's, if both threads treat denormal numbers alike (`torch.set_flush_denormal`).
    Raises ValueError, with `vector` unchanged, unless all of them can be decoded.
    """
    for link in links:
        check(link, vector.numel(), numpy_dtype(vector.dtype))
    difference = torch.empty_like(vector)
    for link in links:
        decode(link, difference)
        vector += difference
