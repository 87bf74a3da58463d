"""What stands before every frame: which kind it is, its number, and what its sender has received."""

from __future__ import annotations

import struct
from enum import IntEnum

PROTOCOL = 1
"""Both ends of a connection must have the same; told in the hello."""

Part = bytes | memoryview
"""A piece of a frame; a memoryview must be C-contiguous, and what it shows must never change."""

PREFIX = struct.Struct("<IIQQQ")
"""Head, ticket, number, highest LETTERS and highest ANSWERS number received from the other end.

32 bytes, so that what follows is aligned to 16 in nng's messages.
"""

PREFIX_BYTES = PREFIX.size


class Kind(IntEnum):
    """The two streams from a node to a peer: answers never queue behind messages."""

    LETTERS = 1
    """Messages."""
    ANSWERS = 2
    """Outcomes, replies, acknowledgements, probes."""


def head(what: int) -> int:
    """The first four bytes of a frame of this sort, as PREFIX has them."""
    return int.from_bytes(b"aq" + bytes((PROTOCOL, what)), "little")


HEADS = {kind: head(kind) for kind in Kind}
WELCOME = head(4)
HELLO = int.from_bytes(b"aq\0\3", "little")
"""The same in every version of the protocol, so that any two can tell that they differ."""
