"""Interface of a network to the reliable session: connections that carry whole frames.

Connections are one-way: frames go from the end that dialed to the end that listens, in order. A connection
may break at any time, and frames in flight are lost with it: numbering, acknowledgement, resending and
authentication are done by the session. All calls, to a wire and from it, are made on the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .frame_header import Part


class Connection(Protocol):
    """An outgoing connection."""

    def writable(self) -> bool:
        """Whether `send` would take a frame now."""
        ...

    def send(self, parts: Sequence[Part], size: int) -> bool:
        """Send one frame, the concatenation of `parts`, `size` bytes in all. Never blocks.

        False if the connection takes none now, or is lost; then nothing of the frame was sent. The parts are
        immutable and may be kept.
        """
        ...

    async def wait_writable(self) -> None:
        """Return when `writable`; always a checkpoint. One task at a time."""
        ...

    async def run(self) -> None:
        """Do the connection's background work; returns when it is lost."""
        ...

    def close(self) -> None:
        """Close it at once. No task may be in `run` or `wait_writable` any more."""
        ...


class FrameReceiver(Protocol):
    """The listening side of a session: takes the events of incoming connections, each known by a number.

    Numbers aren't reused. A frame may come before its connection's `opened`, never after its `closed`.
    """

    def opened(self, connection: int) -> None: ...

    def frame(self, connection: int, frame: memoryview) -> None:
        """A whole frame: read-only, aligned to 16 bytes, and valid as long as any view of it.

        An error that this raises ends `FrameWire.serve`.
        """
        ...

    def closed(self, connection: int) -> None:
        """The connection is gone, whichever end closed it."""
        ...

    def turned_away(self, count: int) -> None:
        """The wire closed this many connections before they were `opened`: too many, or too slow."""
        ...


class FrameWire(Protocol):
    """One node's connections over one kind of network."""

    def listen(self, address: str) -> str:
        """Accept connections at `scheme://path` or `scheme://host:port`, where port 0 is any free one.

        Returns the address as bound. Raises ActorqError if it can't be bound.
        """
        ...

    async def dial(self, address: str) -> Connection:
        """Return a connection to that address, retrying until it stands.

        Raises ActorqError if the address can't be dialed at all. Cancelled, it leaves nothing open.
        """
        ...

    async def serve(self) -> None:
        """Pass incoming frames and events to the receiver, until cancelled."""
        ...

    def hang_up(self, connection: int) -> None:
        """Close an incoming connection; `closed` follows. No effect if it is gone."""
        ...

    def refused(self) -> int:
        """Connections that the network itself has refused so far, such as for a foreign TLS certificate."""
        ...

    def close(self) -> None:
        """Close the listening addresses and all incoming connections. No task may be in `serve` any more."""
        ...
