"""Reliable session with one incarnation of a peer: streams both ways, acknowledgements, welcomes."""

from __future__ import annotations

import logging
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import anyio

from actorq.actors.errors import ActorqError
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.transport import FrameCodec, Peer

from .acks import AckTracker, Incoming
from .connector import Connector
from .counters import Counts
from .frame_header import PREFIX, PREFIX_BYTES, PROTOCOL, WELCOME, Kind
from .handshake import SessionHello, SessionWelcome, open_welcome, seal_hello, seal_welcome
from .stream import OrderedStream
from .wire import FrameWire

log = logging.getLogger("actorq.transports")

OWED_FRAMES = 64
OWED_BYTES = 1 << 20
"""Limits on what has arrived and isn't acknowledged: at either, an acknowledgement is sent at once."""
ACKNOWLEDGE_SECONDS = 0.1
"""How long an acknowledgement waits at most for a frame to be sent with."""

MAX_REFUSALS = 6
"""Of the same frame: one that was corrupted in transit has arrived intact by then."""


@dataclass(frozen=True, slots=True)
class SessionNode:
    """This node's part of all its sessions."""

    name: str
    incarnation: int
    run: str
    secret: bytes
    max_frame_bytes: int


class Session:
    """From `peer_up` until `peer_down`, or until the peer comes up as another incarnation."""

    def __init__(
        self,
        node: SessionNode,
        peer: Peer,
        route_table: bytes,
        codec: FrameCodec,
        *,
        wire: FrameWire,
        counts: Counts,
        connections: Iterator[int],
    ) -> None:
        self.peer = peer
        self.route_table = route_table
        self.acks = AckTracker()
        self._node = node
        self._codec = codec
        self._counts = counts
        self._connections = connections
        self._scope = anyio.CancelScope()
        self._owing = anyio.Event()
        self._complained = False
        self.envelopes, self.answers = (
            OrderedStream(kind, next_frame, self.acks, counts, node.max_frame_bytes)
            for kind, next_frame in zip(Kind, (codec.next_envelopes, codec.next_answers), strict=True)
        )
        self._connectors = {
            kind: Connector(
                stream,
                address=lambda: self.peer.addresses[0],
                hello=partial(self._make_hello, kind),
                connected=self._send_welcomes if kind is Kind.ANSWERS else lambda: None,
                wire=wire,
                counts=counts,
            )
            for kind, stream in zip(Kind, (self.envelopes, self.answers), strict=True)
        }

    async def run(self) -> None:
        """Keep both streams connected and the peer informed, until `end` or cancelled."""
        with self._scope:
            async with anyio.create_task_group() as group:
                for connector in self._connectors.values():
                    group.start_soon(connector.run)
                await self._acknowledge_late()

    def cut(self) -> None:
        """Close the present connections; others follow."""
        for connector in self._connectors.values():
            connector.cut()

    def end(self) -> None:
        """Close the connections for good and drop what the peer hasn't received."""
        self._scope.cancel()
        self.envelopes.end()
        self.answers.end()

    def between(self, hello: SessionHello) -> bool:
        """Whether the hello is from this incarnation of the peer, to this incarnation of this node."""
        ends = (hello.sender_incarnation, hello.receiver_incarnation)
        return ends == (self.peer.incarnation, self._node.incarnation)

    def greeted(self, incoming: Incoming, connection: int, hello: SessionHello) -> None:
        """The peer has authenticated a new connection: welcome it."""
        incoming.connection, incoming.hello, incoming.newest = connection, hello, hello.connection
        incoming.ticket = secrets.randbits(31) + 1
        self.envelopes.borrowed = self.answers.borrowed = hello.borrows
        self._send_welcome(incoming)

    def complain(self, sentence: str) -> None:
        """Log a protocol error of this peer, once only: it may be repeated."""
        if not self._complained:
            self._complained = True
            log.error("refused %s: %s", self.peer.name, sentence)

    def arrived(self, incoming: Incoming, frame: memoryview) -> bool:
        """Take a frame of an authenticated connection; False if it breaks the protocol."""
        if len(frame) < PREFIX_BYTES:
            return False
        head, ticket, number, envelopes, answers = PREFIX.unpack_from(frame)
        if ticket != incoming.ticket or head != incoming.head:
            return head == WELCOME and self._welcomed(frame)
        if not (self.envelopes.acknowledge(envelopes) and self.answers.acknowledge(answers)):
            return False
        if number == incoming.received + 1:
            return self._new(incoming, number, frame)
        if number == 0:
            return len(frame) == PREFIX_BYTES
        if number <= incoming.received:
            self._counts.repeats_dropped += 1
            return True
        return False

    def _new(self, incoming: Incoming, number: int, frame: memoryview) -> bool:
        answers = incoming.kind is Kind.ANSWERS
        received = self._codec.answers_received if answers else self._codec.envelopes_received
        try:
            received(frame[PREFIX_BYTES:])
        except WireError as error:
            self._refuse(incoming, number, frame, error)
            return False
        incoming.received = number
        size = len(frame)
        counts, acks = self._counts, self.acks
        counts.frames_in += 1
        counts.bytes_in += size
        acks.owed_frames += 1
        acks.owed_bytes += size
        if acks.owed_frames >= OWED_FRAMES or acks.owed_bytes >= OWED_BYTES:
            self.answers.send_acks()
        else:
            self._owing.set()
        return True

    def _refuse(self, incoming: Incoming, number: int, frame: memoryview, error: WireError) -> None:
        """Request the frame again; after MAX_REFUSALS fail, since no frame behind it could ever arrive."""
        checksum = zlib.crc32(frame[PREFIX_BYTES:])
        *known, times = incoming.refused
        times = times + 1 if known == [number, checksum] else 1
        incoming.refused = number, checksum, times
        if times == MAX_REFUSALS:
            kind = incoming.kind.name.lower()
            raise ActorqError(
                f"{self.peer.name} has sent frame {number} of its {kind} {times} times, "
                f"and {self._node.name} can't decode it: {error}"
            ) from error
        self.complain(f"a frame can't be taken, and its connection is closed: {error}")

    async def _acknowledge_late(self) -> None:
        while True:
            await self._owing.wait()
            await anyio.sleep(ACKNOWLEDGE_SECONDS)
            self._owing = anyio.Event()
            if self.acks.owed_frames:
                self.answers.send_acks()

    def _make_hello(self, kind: Kind) -> tuple[int, bytes]:
        """The number of a new connection, and its first frame."""
        connection = next(self._connections)
        return connection, seal_hello(self._hello(kind, connection), self._node.secret)

    def _hello(self, kind: Kind, connection: int) -> SessionHello:
        return SessionHello(
            protocol=PROTOCOL,
            run=self._node.run,
            sender=self._node.name,
            receiver=self.peer.name,
            sender_incarnation=self._node.incarnation,
            receiver_incarnation=self.peer.incarnation,
            kind=kind,
            connection=connection,
            route_table=self.route_table,
            borrows=self.peer.memory is not None,
        )

    def _send_welcomes(self) -> None:
        """Send welcomes over a new connection: those sent over the last may have been lost with it."""
        for incoming in self.acks:
            self._send_welcome(incoming)

    def _send_welcome(self, incoming: Incoming) -> None:
        if incoming.connection is not None and incoming.hello is not None:
            welcome = SessionWelcome(hello=incoming.hello, received=incoming.received, ticket=incoming.ticket)
            self.answers.welcome(incoming.kind, seal_welcome(welcome, self._node.secret))

    def _welcomed(self, frame: memoryview) -> bool:
        welcome = open_welcome(frame, self._node.secret)
        if welcome is None:
            return False
        hello = welcome.hello
        if hello != self._hello(hello.kind, hello.connection):
            return False  # it answers another hello
        if not self._connectors[hello.kind].welcomed(hello.connection, welcome.received, welcome.ticket):
            return False
        if hello.kind is Kind.ANSWERS:
            self.answers.send_acks()  # those sent over the last connection may have been lost with it
        return True
