"""One node's end of all links to other nodes: it listens, dials the peers it meets, and moves frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actorq.actors.errors import ActorqError
from actorq.actors.wire.transport import Peer
from actorq_nng.sockets import Tls
from actorq_nng.waker import LoopWaker

from .acceptor import Acceptor
from .counters import Counts, EndpointCounters
from .frame_header import Kind
from .handshake import SECRET_BYTES
from .session import Received, Session, SessionNode
from .stream import OrderedStream


class Endpoint:
    """Frames between this node and its peers: in order, each exactly once, as long as both nodes live.

    `received(peer, kind, body)` is called on the loop for each frame. `body` is read-only, begins at a
    multiple of 16 bytes, and keeps nng's memory as long as any view of it. If it raises WireError the frame
    counts as bad, is not acknowledged, and costs the peer that connection; the same one refused several times
    over, or another error, ends `serve`.
    """

    def __init__(
        self,
        *,
        me: str,
        incarnation: int,
        run: str,
        secret: bytes,
        max_frame_bytes: int,
        received: Received,
        tls: Tls | None = None,
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise ActorqError(f"the secret of a run has {SECRET_BYTES} bytes, this one {len(secret)}")
        self._node = SessionNode(me, incarnation, run, secret, max_frame_bytes, tls)
        self._received = received
        self._counts = Counts()
        self._links: dict[str, Session] = {}
        self._parted: dict[str, int] = {}
        self._connections = count(1)
        self._bell = LoopWaker()
        self._gate = Acceptor(self._node, self._links, self._bell, self._counts)
        self._tasks: TaskGroup | None = None
        self._ended = anyio.Event()
        self._closed = False

    def listen(self, address: str) -> str:
        """Accept connections there: ipc:///path, tcp://host:port, tls+tcp://host:port; port 0: a free one.

        Returns the address as bound. Raises ActorqError if it can't be.
        """
        if address.startswith("tls+tcp://") and self._node.tls is None:
            raise ActorqError(f"can't listen at {address} without a certificate")
        return self._gate.listener.listen(address)

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read, dial, send and acknowledge, until cancelled or closed; then all sockets are closed."""
        if self._closed:
            task_status.started()
            return
        try:
            async with anyio.create_task_group() as self._tasks:
                task_status.started()
                for work in (
                    self._bell.answer,
                    self._gate.read,
                    self._gate.close_silent,
                    self._gate.end_handshakes,
                ):
                    self._tasks.start_soon(work)
                for channel in self._links.values():
                    self._tasks.start_soon(channel.run)
        finally:
            self._tasks = None
            self._let_go()
            self._ended.set()

    def peer_up(self, peer: Peer, route_table: bytes) -> tuple[OrderedStream, OrderedStream]:
        """The peer is up: dial its first address. Returns the streams of its messages and answers.

        Another incarnation is another peer: what the old one hasn't got is forgotten, its streams are dead.
        The same one may be met again, to tell of another address or contract. Raises ActorqError for one that
        was parted from.
        """
        if self._parted.get(peer.name) == peer.incarnation:
            raise ActorqError(f"{peer.name} was parted from; only another incarnation of it can be met")
        channel = self._links.get(peer.name)
        if channel is not None and channel.peer.incarnation != peer.incarnation:
            self.peer_down(peer.name)
            channel = None
        if channel is None:
            channel = self._links[peer.name] = Session(
                self._node,
                peer,
                route_table,
                received=self._received,
                waker=self._bell,
                counts=self._counts,
                connections=self._connections,
            )
            if self._tasks is not None:
                self._tasks.start_soon(channel.run)
        elif (channel.peer, channel.route_table) != (peer, route_table):
            channel.peer, channel.route_table = peer, route_table
            channel.cut()
        return channel.envelopes, channel.answers

    def peer_down(self, name: str) -> None:
        """The peer is gone for good: forget what it hasn't got, close its connections, refuse its hellos."""
        if (channel := self._links.pop(name, None)) is not None:
            self._parted[name] = channel.peer.incarnation
            channel.end()
            self._gate.forget(channel)

    def stream(self, name: str, kind: Kind) -> OrderedStream:
        """What this node sends to the peer. Raises KeyError if it isn't met."""
        channel = self._links[name]
        return channel.envelopes if kind is Kind.LETTERS else channel.answers

    def ring(self, call: Callable[[], object]) -> None:
        """Have the loop make this call; for any thread, and without waiting."""
        self._bell.ring(call)

    def cut(self) -> None:
        """Close all present connections, as a failing network would; they come back by themselves."""
        self._gate.cut()
        for channel in self._links.values():
            channel.cut()

    async def close(self) -> None:
        """Wait until all peers have got all frames, then end `serve` and close the sockets.

        Give it a time: a peer that is cut off never gets them. Cancelled, it closes the sockets all the same.
        """
        try:
            if self._tasks is not None:
                for channel in list(self._links.values()):
                    channel.answers.tell_receipts()
                    await channel.envelopes.drained()
                    await channel.answers.drained()
        finally:
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._ended.wait()
            self._let_go()

    def statistics(self) -> EndpointCounters:
        """The counts at this moment."""
        counted = self._counts.statistics()
        return replace(counted, strangers=counted.strangers + self._gate.listener.refused())

    def _let_go(self) -> None:
        if not self._closed:
            self._closed = True
            for channel in self._links.values():
                channel.end()
            self._gate.listener.close()
            self._bell.close()
