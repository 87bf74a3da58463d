"""The coordinator's session with a host that has joined, and the handle of the node that runs there."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import anyio

from actorq.actors import ActorqError, Death, NodeDied, Peer
from actorq.actors.supervision.control_messages import Commands, Listening, NodeEvents, PeerUp
from actorq.launchers.control_stream import ControlStream, FrameError
from actorq.launchers.log_forwarding import Logged, relog

from .host_protocol import (
    HEARTBEAT_SECONDS,
    EndNode,
    FromHost,
    Heartbeat,
    HostConnection,
    HostLeaving,
    HostReady,
    LaunchNode,
    NodeEnded,
    ToHost,
)

log = logging.getLogger("actorq.launchers")

MISSED_HEARTBEATS = 3
"""Consecutive checks, HEARTBEAT_SECONDS apart, with nothing received until a host counts as lost: under 2 s.

Checks are counted, not seconds: after an actor has blocked this loop, what arrived meanwhile is still unread.
"""


class HostLost(ActorqError):
    """The host was lost before its node was up; the node can be launched on another."""


class HostSession:
    """Session with an authenticated host, which runs one node at a time, or none."""

    def __init__(self, where: str, connection: HostConnection, free: Callable[[HostSession], None]) -> None:
        """`free` is called whenever the host can take a node."""
        self.where = where
        self.stream = ControlStream(connection, FromHost)
        self._connection = connection
        self._free = free
        self._node: HostNode | None = None
        self._gone = ""
        self._serving = anyio.CancelScope(shield=True)

    @property
    def is_free(self) -> bool:
        return self._node is None and not self._gone

    async def serve(self) -> None:
        """Receive until the host leaves, misses its heartbeats, or the session is closed.

        Shielded from cancellation: a cancelled run still has to send RunEnded.
        """
        try:
            with self._serving:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.stream.serve)
                    tasks.start_soon(self._listen)
                    await self._watch()
                    self._serving.cancel()
        finally:
            self._gone = self._gone or "this end has closed the connection"
            if self._node is not None:
                self._node.lost(f"was lost with its host {self.where}: {self._gone}")

    def close(self) -> None:
        self._serving.cancel()

    async def launch(self, node: str, incarnation: int) -> HostNode:
        """Return when the node is up. Raises HostLost, and NodeDied. Cancelled, the node is ended."""
        launched = self._node = HostNode(self)
        self.send(LaunchNode(node, incarnation))
        try:
            await launched.listening()
        except BaseException:
            await launched.aclose()
            raise
        return launched

    def send(self, message: ToHost) -> None:
        self.stream.send_soon(message)

    async def _watch(self) -> None:
        missed = 0
        while missed < MISSED_HEARTBEATS:
            self._connection.received = False
            await anyio.sleep(HEARTBEAT_SECONDS)
            missed = 0 if self._connection.received else missed + 1
        self._gone = f"no heartbeat for {MISSED_HEARTBEATS * HEARTBEAT_SECONDS:g} s"

    async def _listen(self) -> None:
        try:
            async for message in self.stream:
                self._handle(message)
            self._gone = self._gone or "it has closed the connection"
        except FrameError as error:
            self._gone = f"its message can't be decoded: {error}"
        self._serving.cancel()

    def _handle(self, message: FromHost) -> None:
        match message:
            case Heartbeat():
                pass
            case HostReady():
                self._free(self)
            case Logged():
                relog(message)
            case HostLeaving(reason):
                self._gone = reason
                log.warning("host %s leaves: %s", self.where, reason)
            case NodeEnded(reason, page):
                node, self._node = self._node, None
                if node is not None:
                    node.end(Death(reason, page))
            case _:
                if self._node is not None:
                    self._node.add_event(message)


class HostNode:
    """Handle of one start of a node on a host."""

    peer: Peer

    def __init__(self, host_session: HostSession) -> None:
        self._host_session = host_session
        self._add_event, self._events = anyio.create_memory_object_stream[NodeEvents](math.inf)
        self._over = anyio.Event()
        self._death = Death("", None)
        self._host_is_lost = False

    # Called by the coordinator.

    def post(self, order: Commands) -> None:
        if not self._over.is_set():
            if isinstance(order, PeerUp):
                order = PeerUp(tuple(map(_as_seen_from_other_hosts, order.peers)))
            self._host_session.send(order)

    async def listening(self) -> None:
        """Return when its peers can reach it. Raises HostLost and NodeDied."""
        async for node_event in self._events:
            if isinstance(node_event, Listening):
                self.peer = _as_seen_from_other_hosts(node_event.peer)
                return
        if self._host_is_lost:
            raise HostLost(self._death.reason)
        raise NodeDied(self._death.reason)

    def node_events(self) -> AsyncIterator[NodeEvents]:
        return self._events

    async def ended(self) -> Death:
        await self._over.wait()
        return self._death

    async def aclose(self) -> None:
        """End the node on its host, if it still runs; the host gets no other node before."""
        if not self._over.is_set():
            self._host_session.send(EndNode())
            self.end(Death("was ended by the coordinator", None))
        self._events.close()

    # Called by the host's session.

    def add_event(self, node_event: NodeEvents) -> None:
        if not self._over.is_set():
            self._add_event.send_nowait(node_event)

    def end(self, death: Death) -> None:
        """Mark the node as ended. Events received before can still be read. Only the first call has an
        effect.
        """
        if not self._over.is_set():
            self._death = death
            self._add_event.close()
            self._over.set()

    def lost(self, reason: str) -> None:
        self._host_is_lost = True
        self.end(Death(reason, None))


def _as_seen_from_other_hosts(peer: Peer) -> Peer:
    """The peer without its ipc addresses and shared memory, which only its own host can use.

    Applied even if both are on one machine: they may belong to different users.
    """
    addresses = tuple(address for address in peer.addresses if not address.startswith("ipc:"))
    return replace(peer, addresses=addresses, host="", memory=None)
