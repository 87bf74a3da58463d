"""Who may speak to this node: connections that prove themselves; all others are closed and counted."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from actorq_nng.sockets import Listener
from actorq_nng.waker import LoopWaker

from .acks import Incoming
from .counters import Counts
from .frame_header import PREFIX_BYTES, PROTOCOL
from .handshake import SessionHello, open_hello
from .session import Session, SessionNode
from .stream import BURST_FRAMES

SILENT_SECONDS = 1.0
"""How long a connection may stand without a hello."""
HANDSHAKE_SECONDS = 2.0
"""So long, at least, and twice as long at most, nng has for making a connection over tcp."""
MOST_UNPROVEN = 64
"""Connections without a hello at a time; beyond, the oldest is closed, as true peers speak at once."""
MOST_UNSEEN = 256
"""Beyond, while the loop is busy elsewhere, nng's thread turns new ones away: descriptors are finite."""


class Acceptor:
    """Takes all frames off the listener, and gives each to the link that its connection belongs to."""

    def __init__(
        self, node: SessionNode, channels: dict[str, Session], waker: LoopWaker, counts: Counts
    ) -> None:
        self._node = node
        self._links = channels
        self._counts = counts
        self._proven: dict[int, tuple[Session, Incoming]] = {}
        self._waiting: dict[int, float] = {}
        """Connections without a word, the oldest first, and since when."""
        self._refused: set[int] = set()
        """Closed by this end and not gone yet."""
        self._someone = anyio.Event()
        self.listener = Listener(
            waker,
            max_bytes=node.max_frame_bytes + PREFIX_BYTES,
            tls=node.tls,
            admits=lambda connections: connections - len(self._proven) <= MOST_UNSEEN,
            turned_away=self._silent,
            opened=self._opened,
            closed=self._closed,
        )

    async def read(self) -> None:
        """Take frames as they come, until cancelled; none is lost on the way to its link."""
        while True:
            await self.listener.wait()
            self._take_some()
            # Those who were woken answer first: registering for the next frame takes a while.
            await checkpoint()

    async def close_silent(self) -> None:
        """Close connections that say nothing for too long, until cancelled."""
        while True:
            while not self._waiting:  # it may be gone again by the time this task has its turn
                self._someone = anyio.Event()
                await self._someone.wait()
            pipe, since = next(iter(self._waiting.items()))
            await anyio.sleep_until(since + SILENT_SECONDS)
            if pipe in self._waiting:
                self._close_silent(pipe)

    async def end_handshakes(self) -> None:
        """Close connections over tcp that don't come to the point of saying anything, until cancelled."""
        while True:
            await anyio.sleep(HANDSHAKE_SECONDS)
            self._counts.unproven += self.listener.end_handshakes()

    def cut(self) -> None:
        """Close all connections that have proven themselves."""
        for pipe in list(self._proven):
            self._hang_up(pipe)

    def forget(self, channel: Session) -> None:
        """Close the connections that belong to this link."""
        for incoming in channel.acks:
            if incoming.pipe is not None:
                self._hang_up(incoming.pipe)

    def _take_some(self) -> None:
        for _ in range(BURST_FRAMES):
            taken = self.listener.take()
            if taken is None:
                return
            pipe, frame = taken
            proven = self._proven.get(pipe)
            if proven is None:
                self._greet(pipe, frame)
            elif not proven[0].arrived(proven[1], frame):
                self._counts.bad_frames += 1
                proven[0].complain("it broke the protocol: its connection is closed")
                self._hang_up(pipe)
            if not self.listener.readable():
                return

    def _greet(self, pipe: int, frame: memoryview) -> None:
        """The first frame of a connection: it has to be a hello."""
        if pipe in self._refused:
            return
        self._waiting.pop(pipe, None)
        hello = open_hello(frame, self._node.secret)
        if hello is None or (hello.run, hello.receiver) != (self._node.run, self._node.name):
            self._counts.strangers += 1
            self._hang_up(pipe)
            return
        channel = self._links.get(hello.sender)
        if channel is not None and hello.protocol != PROTOCOL:
            self._mismatched(
                pipe,
                channel,
                f"it speaks version {hello.protocol} of the protocol, this node {PROTOCOL}: "
                "install the same version of actorq on both",
            )
        elif channel is None or not channel.between(hello):
            self._counts.early += 1
            self._hang_up(pipe)
        elif hello.route_table != channel.route_table:
            self._mismatched(
                pipe,
                channel,
                "it and this node disagree on what they may send each other: "
                "give both the same topology and the same code of its messages",
            )
        else:
            self._admit(pipe, channel, hello)

    def _mismatched(self, pipe: int, channel: Session, sentence: str) -> None:
        self._counts.mismatched += 1
        channel.complain(sentence)
        self._hang_up(pipe)

    def _admit(self, pipe: int, channel: Session, hello: SessionHello) -> None:
        incoming = channel.acks[hello.kind]
        if hello.connection <= incoming.newest:
            self._counts.strangers += 1  # a hello said again: whoever says it has only heard it
            self._hang_up(pipe)
            return
        if incoming.pipe is not None:
            self._hang_up(incoming.pipe)
        self._proven[pipe] = channel, incoming
        channel.greeted(incoming, pipe, hello)

    def _opened(self, pipe: int) -> None:
        if pipe in self._proven or pipe in self._refused:
            return  # its first frame came before this news
        self._waiting[pipe] = anyio.current_time()
        self._someone.set()
        if len(self._waiting) > MOST_UNPROVEN:
            self._take_some()  # true hellos among them may just not have been read
        if len(self._waiting) > MOST_UNPROVEN:
            self._close_silent(next(iter(self._waiting)))

    def _closed(self, pipe: int) -> None:
        self._refused.discard(pipe)
        if self._waiting.pop(pipe, None) is not None:
            self._silent()
        if (proven := self._proven.pop(pipe, None)) is not None:
            proven[1].pipe = None

    def _close_silent(self, pipe: int) -> None:
        del self._waiting[pipe]
        self._silent()
        self._hang_up(pipe)

    def _silent(self) -> None:
        self._counts.unproven += 1

    def _hang_up(self, pipe: int) -> None:
        if (proven := self._proven.pop(pipe, None)) is not None:
            proven[1].pipe = None
        self._refused.add(pipe)
        self.listener.hang_up(pipe)
