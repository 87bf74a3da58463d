"""Acknowledgement state of one peer: how far its frames have arrived, and over which connections."""

from __future__ import annotations

from collections.abc import Iterator

from .frame_header import HEADS, Kind
from .handshake import SessionHello


class Incoming:
    """Receiving side of one stream from one peer."""

    __slots__ = ("connection", "head", "hello", "kind", "newest", "received", "refused", "ticket")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.head = HEADS[kind]
        self.received = 0
        """Number of the last frame; they come in order."""
        self.newest = 0
        """Highest connection number admitted: a hello with this one or a lower one is a repeat."""
        self.connection: int | None = None
        """The wire's number of the connection that carries this stream at present."""
        self.hello: SessionHello | None = None
        self.ticket = 0
        self.refused = (0, 0, 0)
        """The last frame that couldn't be decoded: its number, its checksum, and how often it has come."""


class AckTracker:
    """Both streams from one peer, and what has arrived but isn't acknowledged to the peer yet."""

    __slots__ = ("answers", "envelopes", "owed_bytes", "owed_frames")

    def __init__(self) -> None:
        self.envelopes, self.answers = Incoming(Kind.ENVELOPES), Incoming(Kind.ANSWERS)
        self.owed_frames = self.owed_bytes = 0

    def __getitem__(self, kind: Kind) -> Incoming:
        return self.envelopes if kind is Kind.ENVELOPES else self.answers

    def __iter__(self) -> Iterator[Incoming]:
        yield self.envelopes
        yield self.answers
