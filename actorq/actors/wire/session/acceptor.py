"""Authenticates incoming connections: each has to begin with a genuine hello, or is closed and counted."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .acks import Incoming
from .counters import Counts
from .frame_header import PROTOCOL
from .handshake import SessionHello, open_hello
from .session import Session, SessionNode
from .wire import FrameReceiver, FrameWire

HELLO_SECONDS = 1.0
"""A connection without a hello is closed after this time."""
MAX_UNAUTHENTICATED = 64
"""Open connections without a hello; beyond, the oldest is closed, since genuine peers send theirs at once."""


class Acceptor:
    """Receives all frames from the wire and passes each to the session that its connection belongs to."""

    def __init__(
        self,
        node: SessionNode,
        sessions: dict[str, Session],
        counts: Counts,
        make_wire: Callable[[FrameReceiver], FrameWire],
    ) -> None:
        self._node = node
        self._sessions = sessions
        self._counts = counts
        self._authenticated: dict[int, tuple[Session, Incoming]] = {}
        self._pending: dict[int, float] = {}
        """Connections that have sent nothing yet, oldest first, with the time at which they opened."""
        self._refused: set[int] = set()
        """Closed by this end, before the wire has confirmed it."""
        self._any_pending = anyio.Event()
        self.wire = make_wire(self)

    async def close_silent(self) -> None:
        """Close connections that send no hello in time, until cancelled."""
        while True:
            while not self._pending:  # it may be gone again by the time this task runs
                self._any_pending = anyio.Event()
                await self._any_pending.wait()
            connection, since = next(iter(self._pending.items()))
            await anyio.sleep_until(since + HELLO_SECONDS)
            if connection in self._pending:
                self._close_silent(connection)

    def cut(self) -> None:
        """Close all authenticated connections."""
        for connection in list(self._authenticated):
            self._hang_up(connection)

    def forget(self, session: Session) -> None:
        """Close the connections that belong to this session."""
        for incoming in session.acks:
            if incoming.connection is not None:
                self._hang_up(incoming.connection)

    # What the wire calls.

    def opened(self, connection: int) -> None:
        if connection in self._authenticated or connection in self._refused:
            return  # its first frame came before this event
        self._pending[connection] = anyio.current_time()
        self._any_pending.set()
        if len(self._pending) > MAX_UNAUTHENTICATED:
            self._close_silent(next(iter(self._pending)))

    def frame(self, connection: int, frame: memoryview) -> None:
        authenticated = self._authenticated.get(connection)
        if authenticated is None:
            self._take_hello(connection, frame)
        elif not authenticated[0].arrived(authenticated[1], frame):
            self._counts.bad_frames += 1
            authenticated[0].complain("it broke the protocol: its connection is closed")
            self._hang_up(connection)

    def closed(self, connection: int) -> None:
        self._refused.discard(connection)
        if self._pending.pop(connection, None) is not None:
            self._counts.without_hello += 1
        if (authenticated := self._authenticated.pop(connection, None)) is not None:
            authenticated[1].connection = None

    def turned_away(self, count: int) -> None:
        self._counts.without_hello += count

    def _take_hello(self, connection: int, frame: memoryview) -> None:
        """Check the first frame of a connection."""
        if connection in self._refused:
            return
        self._pending.pop(connection, None)
        hello = open_hello(frame, self._node.secret)
        if hello is None or (hello.run, hello.receiver) != (self._node.run, self._node.name):
            self._counts.unauthenticated += 1
            self._hang_up(connection)
            return
        session = self._sessions.get(hello.sender)
        if session is not None and hello.protocol != PROTOCOL:
            self._mismatched(
                connection,
                session,
                f"it speaks version {hello.protocol} of the protocol, this node {PROTOCOL}: "
                "install the same version of actorq on both",
            )
        elif session is None or not session.between(hello):
            self._counts.early += 1
            self._hang_up(connection)
        elif hello.route_table != session.route_table:
            self._mismatched(
                connection,
                session,
                "it and this node disagree on what they may send each other: "
                "give both the same topology and the same code of its messages",
            )
        else:
            self._admit(connection, session, hello)

    def _mismatched(self, connection: int, session: Session, sentence: str) -> None:
        self._counts.mismatched += 1
        session.complain(sentence)
        self._hang_up(connection)

    def _admit(self, connection: int, session: Session, hello: SessionHello) -> None:
        incoming = session.acks[hello.kind]
        if hello.connection <= incoming.newest:
            self._counts.unauthenticated += 1  # a replayed hello, or one overtaken by a newer connection's
            self._hang_up(connection)
            return
        if incoming.connection is not None:
            self._hang_up(incoming.connection)
        self._authenticated[connection] = session, incoming
        session.greeted(incoming, connection, hello)

    def _close_silent(self, connection: int) -> None:
        del self._pending[connection]
        self._counts.without_hello += 1
        self._hang_up(connection)

    def _hang_up(self, connection: int) -> None:
        if (authenticated := self._authenticated.pop(connection, None)) is not None:
            authenticated[1].connection = None
        self._refused.add(connection)
        self.wire.hang_up(connection)
