"""One node's end of its sessions with all peers: listens, dials the peers that are up, and moves frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import anyio
from anyio.abc import TaskGroup, TaskStatus

from actorq.actors.errors import ActorqError
from actorq.actors.runtime.loop_waker import LoopWaker
from actorq.actors.statistics import TransportStatistics
from actorq.actors.wire.transport import FrameCodec, Peer

from .acceptor import Acceptor
from .counters import Counts
from .frame_header import PREFIX_BYTES
from .handshake import SECRET_BYTES
from .session import Session, SessionNode
from .stream import OrderedStream
from .wire import FrameReceiver, FrameWire

MakeWire = Callable[[FrameReceiver, int], FrameWire]
"""Makes a node's wire from the receiver of its frames and the largest size of a frame in bytes."""


class Endpoint:
    """One node's streams of frames to its peers: in order, each exactly once, as long as both nodes run.

    A frame that its `FrameCodec` refuses several times, and any error but WireError, ends `serve`.
    """

    def __init__(
        self, *, me: str, incarnation: int, run: str, secret: bytes, max_frame_bytes: int, make_wire: MakeWire
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise ActorqError(f"the secret of a run has {SECRET_BYTES} bytes, this one {len(secret)}")
        self._node = SessionNode(me, incarnation, run, secret, max_frame_bytes)
        self._counts = Counts()
        self._sessions: dict[str, Session] = {}
        self._down: dict[str, int] = {}
        """Incarnations of peers that are down for good."""
        self._connections = count(1)
        self._waker = LoopWaker()
        max_bytes = max_frame_bytes + PREFIX_BYTES
        self._acceptor = Acceptor(
            self._node, self._sessions, self._counts, lambda receiver: make_wire(receiver, max_bytes)
        )
        self._wire = self._acceptor.wire
        self._tasks: TaskGroup | None = None
        self._ended = anyio.Event()
        self._closed = False

    def listen(self, address: str) -> str:
        """Accept connections there; returns the address as bound. Raises ActorqError if it can't be."""
        return self._wire.listen(address)

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read, dial, send and acknowledge, until cancelled or closed; then all connections are closed."""
        if self._closed:
            task_status.started()
            return
        try:
            async with anyio.create_task_group() as self._tasks:
                task_status.started()
                for work in (self._waker.serve, self._wire.serve, self._acceptor.close_silent):
                    self._tasks.start_soon(work)
                for session in self._sessions.values():
                    self._tasks.start_soon(session.run)
        finally:
            self._tasks = None
            self._release()
            self._ended.set()

    def peer_up(
        self, peer: Peer, route_table: bytes, codec: FrameCodec
    ) -> tuple[OrderedStream, OrderedStream]:
        """The peer is up: dial its first address. Returns the streams of its messages and answers.

        Another incarnation is another peer: what the old one has not received is dropped, its streams are
        dead. Call it again for the same one to change its address or route table. Raises ActorqError for an
        incarnation that was reported down.
        """
        if self._down.get(peer.name) == peer.incarnation:
            raise ActorqError(f"{peer.name} is down for good; only another incarnation of it can come up")
        session = self._sessions.get(peer.name)
        if session is not None and session.peer.incarnation != peer.incarnation:
            self.peer_down(peer.name)
            session = None
        if session is None:
            session = self._sessions[peer.name] = Session(
                self._node,
                peer,
                route_table,
                codec,
                wire=self._wire,
                counts=self._counts,
                connections=self._connections,
            )
            if self._tasks is not None:
                self._tasks.start_soon(session.run)
        elif (session.peer, session.route_table) != (peer, route_table):
            session.peer, session.route_table = peer, route_table
            session.cut()
        return session.envelopes, session.answers

    def peer_down(self, name: str) -> None:
        """The peer is gone for good: drop its queued frames, close its connections, refuse its hellos."""
        if (session := self._sessions.pop(name, None)) is not None:
            self._down[name] = session.peer.incarnation
            session.end()
            self._acceptor.forget(session)

    def call_soon(self, call: Callable[[], object]) -> None:
        """Run this call on the loop; from any thread, without waiting."""
        self._waker.call_soon(call)

    def cut(self) -> None:
        """Close all present connections, as a failing network would; they come back by themselves."""
        self._acceptor.cut()
        for session in self._sessions.values():
            session.cut()

    async def close(self) -> None:
        """Wait until all peers have all frames, then end `serve` and close the connections.

        Use it with a timeout: a peer that is cut off never gets them. Cancelled, it closes all the same.
        """
        try:
            if self._tasks is not None:
                for session in list(self._sessions.values()):
                    session.answers.send_acks()
                    await session.envelopes.drained()
                    await session.answers.drained()
        finally:
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._ended.wait()
            self._release()

    def statistics(self) -> TransportStatistics:
        """Present counts."""
        counted = self._counts.statistics()
        return replace(counted, unauthenticated=counted.unauthenticated + self._wire.refused())

    def _release(self) -> None:
        if not self._closed:
            self._closed = True
            for session in self._sessions.values():
                session.end()
            self._wire.close()
            self._waker.close()
