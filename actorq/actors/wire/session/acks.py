"""How far the frames of one peer have arrived, and over which connections they come."""

from __future__ import annotations

from collections.abc import Iterator

from .frame_header import HEADS, Kind
from .handshake import SessionHello


class Incoming:
    """What one peer sends to this node, of one kind."""

    __slots__ = ("head", "hello", "kind", "newest", "pipe", "received", "refused", "ticket")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.head = HEADS[kind]
        self.received = 0
        """Number of the last frame; they come in order."""
        self.newest = 0
        """Highest connection number taken: a hello with it or a lower one is a repeat."""
        self.pipe: int | None = None
        """nng's number of the connection that may speak now."""
        self.hello: SessionHello | None = None
        self.ticket = 0
        self.refused = (0, 0, 0)
        """The last frame that couldn't be taken: its number, its checksum, and how often it has come."""


class AckTracker:
    """Both kinds, and how much of it the peer hasn't been told of."""

    __slots__ = ("answers", "envelopes", "owed_bytes", "owed_frames")

    def __init__(self) -> None:
        self.envelopes, self.answers = Incoming(Kind.LETTERS), Incoming(Kind.ANSWERS)
        self.owed_frames = self.owed_bytes = 0

    def __getitem__(self, kind: Kind) -> Incoming:
        return self.envelopes if kind is Kind.LETTERS else self.answers

    def __iter__(self) -> Iterator[Incoming]:
        yield self.envelopes
        yield self.answers
