"""Incarnation numbers of nodes: 63 random bits, the lowest of which count the node's starts."""

from __future__ import annotations

import secrets

ORDINAL_BITS = 12
"""An incarnation's lowest bits count the node's starts; the others are random."""

MAX_STARTS = 1 << ORDINAL_BITS
"""Of one node in a run: messages are told apart by it."""


def new_incarnation(ordinal: int = 0) -> int:
    """For the start number `ordinal` of a node: 63 bits that no other start has. ValueError past the last."""
    if not 0 <= ordinal < MAX_STARTS:
        raise ValueError(f"start number {ordinal} of a node: there are {MAX_STARTS} at most")
    return secrets.randbits(63 - ORDINAL_BITS) << ORDINAL_BITS | ordinal
