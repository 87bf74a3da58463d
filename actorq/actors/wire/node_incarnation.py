"""Incarnation numbers of nodes: 63 bits, random but for the lowest, which count the node's starts."""

from __future__ import annotations

import secrets

ORDINAL_BITS = 12
"""Number of low bits that count a node's starts."""

MAX_STARTS = 1 << ORDINAL_BITS
"""Bound on the starts of one node in a run."""


def new_incarnation(ordinal: int = 0) -> int:
    """A new incarnation number for a node's start number `ordinal`. Raises ValueError from MAX_STARTS on."""
    if not 0 <= ordinal < MAX_STARTS:
        raise ValueError(f"start number {ordinal} of a node: there are {MAX_STARTS} at most")
    return secrets.randbits(63 - ORDINAL_BITS) << ORDINAL_BITS | ordinal
