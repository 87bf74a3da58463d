"""Frame header: the kind of the frame, its number, and acknowledgements of what its sender has received."""

from __future__ import annotations

import struct
from enum import IntEnum

PROTOCOL = 1
"""Version of the session protocol, sent in the hello; both ends must have the same."""

Part = bytes | memoryview
"""A piece of a frame; a memoryview must be C-contiguous, and its contents must never change."""

PREFIX = struct.Struct("<IIQQQ")
"""Head, ticket, number, highest ENVELOPES and highest ANSWERS number received from the other end.

32 bytes, so that the body is aligned to 16 bytes if the frame is.
"""

PREFIX_BYTES = PREFIX.size


class Kind(IntEnum):
    """The two streams from a node to a peer: answers never queue behind messages."""

    ENVELOPES = 1
    """Messages."""
    ANSWERS = 2
    """Outcomes, replies, acknowledgements, probes."""


def head(what: int) -> int:
    """First field of PREFIX for frames of this sort."""
    return int.from_bytes(b"aq" + bytes((PROTOCOL, what)), "little")


HEADS = {kind: head(kind) for kind in Kind}
WELCOME = head(4)
HELLO = int.from_bytes(b"aq\0\3", "little")
"""First bytes of a hello; the same in every version of the protocol, so that any two versions recognise each
other.
"""
