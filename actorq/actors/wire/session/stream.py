"""Frames to one peer: numbered, kept until acknowledged, sent again over the next connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import anyio

from actorq.actors.wire.registry import WireError
from actorq.actors.wire.transport import NextFrame

from .acks import AckTracker
from .counters import Counts
from .frame_header import HEADS, PREFIX, PREFIX_BYTES, Kind, Part
from .wire import Connection

WINDOW_FRAMES = 1024
WINDOW_BYTES = 64 << 20
"""Limits on unacknowledged frames: at either, no new frame is taken from the peer session."""

BURST_FRAMES = 64
"""Sent before other tasks of the loop run."""


class _Frame(NamedTuple):
    number: int
    parts: Sequence[Part]
    size: int


class OrderedStream:
    """Outgoing frames of one kind to one incarnation of a peer.

    Frames arrive in order and each exactly once, across lost connections, as long as both nodes run.
    """

    def __init__(
        self, kind: Kind, next_frame: NextFrame, acks: AckTracker, counts: Counts, max_frame_bytes: int
    ) -> None:
        self._next_frame = next_frame
        self.borrowed = False
        """The peer can read this node's shared memory: stated in its hello, before anything is sent to it."""
        self._head = HEADS[kind]
        self._acks = acks
        self._counts = counts
        self._max_frame_bytes = max_frame_bytes
        self._taken = 0
        self._acked = 0
        self._kept: deque[_Frame] = deque()
        self._kept_bytes = 0
        self._again: deque[_Frame] = deque()
        """Kept frames that the present connection hasn't carried yet."""
        self._connection: Connection | None = None
        self._ticket = 0
        self._welcomes: dict[Kind, bytes] = {}
        self._ack_due = False
        self._nothing_waits = True
        self._woken, self._settled, self._outstanding = anyio.Event(), anyio.Event(), anyio.Event()

    def flush(self) -> None:
        """Send now what waits, as far as the connection accepts it without blocking; the rest follows later.

        Raises WireError if the next frame is larger than the run's bound; what was sent stays sent.
        """
        self._nothing_waits = False
        if self.send_waiting():
            self._woken.set()

    def wake(self) -> None:
        """Send what waits at the next turn of the loop: all that waits by then shares a frame."""
        self._nothing_waits = False
        self._woken.set()

    @property
    def acked(self) -> int:
        """Number of the last acknowledged frame."""
        return self._acked

    @property
    def unacked(self) -> int:
        """Bytes of the unacknowledged frames."""
        return self._kept_bytes

    async def drained(self) -> None:
        """Return when nothing waits, all is acknowledged, and the peer's own frames are too."""
        while self._kept or (self._ack_due and self._ticket) or not self._nothing_waits:
            self._settled = anyio.Event()
            self._woken.set()
            await self._settled.wait()

    def end(self) -> None:
        """The peer is gone: drop what it hasn't received, and send nothing more."""
        self.lost()
        self._nothing_waits = True
        self._kept.clear()
        self._kept_bytes = 0
        self._settled.set()

    # Called by the connection's tasks.

    def connected(self, connection: Connection) -> None:
        """A connection has sent its hello; until it is welcomed it carries only welcomes to the peer."""
        self._connection = connection

    def welcomed(self, received: int, ticket: int) -> bool:
        """Let the connection carry frames from number `received` + 1; False if that number is impossible."""
        if not self.acknowledge(received):
            return False
        self._ticket = ticket
        self._again = deque(self._kept)
        self._woken.set()
        return True

    def lost(self) -> None:
        """The connection is gone."""
        self._connection, self._ticket = None, 0
        self._again.clear()
        self._welcomes.clear()
        self._settled.set()

    def welcome(self, kind: Kind, frame: bytes) -> None:
        """Send the peer this welcome, unless the connection is lost first."""
        if self._connection is not None:
            self._welcomes[kind] = frame
            self.flush()

    def acknowledge(self, number: int) -> bool:
        """Drop all frames up to this number, which the peer has; False if there is no such frame."""
        if number <= self._acked:
            return True
        if number > self._taken:
            return False
        was_full = self._full()
        self._acked = number
        kept = self._kept
        while kept and kept[0].number <= number:
            self._kept_bytes -= kept.popleft().size
        if was_full:
            self._woken.set()
        if not kept and self._nothing_waits:
            self._settled.set()
        return True

    def send_acks(self) -> None:
        """Acknowledge the peer's frames, with the next frame or, if none waits, with an empty one."""
        self._ack_due = True
        self.flush()

    async def woken(self) -> None:
        """Return when there may be something to send. One task at a time."""
        await self._woken.wait()
        self._woken = anyio.Event()

    async def outstanding(self) -> None:
        """Return when some frame is unacknowledged. One task at a time."""
        if not self._kept:
            self._outstanding = anyio.Event()
            await self._outstanding.wait()

    def send_waiting(self) -> bool:
        """Send what waits; True if more waits than the connection accepts at the moment."""
        connection = self._connection
        if connection is None:
            return False
        for _ in range(BURST_FRAMES):
            if not connection.writable():
                return True
            if self._welcomes:
                self._send_welcome(connection)
            elif not self._ticket:
                return False
            elif self._again:
                self._send_again(connection)
            elif not self._send_new(connection):
                self._send_due_ack(connection)
                return False
        return True

    def _send_welcome(self, connection: Connection) -> None:
        kind, frame = next(iter(self._welcomes.items()))
        if connection.send((frame,), len(frame)):
            self._welcomes.pop(kind, None)

    def _send_again(self, connection: Connection) -> None:
        frame = self._again[0]
        if frame.number <= self._acked:
            self._again.popleft()
        elif self._send(connection, frame):
            self._again.popleft()
            self._counts.frames_resent += 1

    def _full(self) -> bool:
        return len(self._kept) >= WINDOW_FRAMES or self._kept_bytes >= WINDOW_BYTES

    def _send_new(self, connection: Connection) -> bool:
        """Pack and send the next frame; False if the window is full or nothing waits."""
        if self._full():
            return False
        parts = self._next_frame()
        if parts is None:
            self._nothing_waits = True
            if not self._kept:
                self._settled.set()
            return False
        size = PREFIX_BYTES
        for part in parts:
            size += len(part) if type(part) is bytes else memoryview(part).nbytes
        if size > self._max_frame_bytes + PREFIX_BYTES:
            raise WireError(
                f"a frame of {size - PREFIX_BYTES} bytes exceeds the run's bound of {self._max_frame_bytes}"
            )
        self._taken += 1
        frame = _Frame(self._taken, parts, size)
        if not self._kept:
            self._outstanding.set()
        self._kept.append(frame)
        self._kept_bytes += size
        if not self._send(connection, frame):
            self._again.append(frame)
        return True

    def _send_due_ack(self, connection: Connection) -> None:
        """Acknowledge by an empty frame, if no other has carried the acknowledgement."""
        if self._ack_due and self._send(connection, _Frame(0, (), PREFIX_BYTES)) and not self._kept:
            self._settled.set()

    def _send(self, connection: Connection, frame: _Frame) -> bool:
        acks = self._acks
        envelopes, answers = acks.envelopes.received, acks.answers.received
        prefix = PREFIX.pack(self._head, self._ticket, frame.number, envelopes, answers)
        if not connection.send((prefix, *frame.parts), frame.size):
            return False
        acks.owed_frames = acks.owed_bytes = 0
        self._ack_due = False
        self._counts.frames_out += 1
        self._counts.bytes_out += frame.size
        return True
