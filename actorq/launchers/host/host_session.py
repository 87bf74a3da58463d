"""A host that has joined, and the node that it has been given, as the coordinator sees them."""

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
    Died,
    Drop,
    FromHost,
    Heartbeat,
    Launch,
    Leaving,
    Ready,
    ToHost,
    Wire,
)

log = logging.getLogger("actorq.launchers")

SILENT_LOOKS = 3
"""So many times in a row, BEAT_SECONDS apart, with nothing heard: then a host is lost, within two seconds.

Looks are counted, not seconds: if an actor has held this loop for long, what came meanwhile is still unread.
"""


class HostLost(ActorqError):
    """The host is gone before its node was up: another may take it."""


class HostSession:
    """A host that has proven itself. It has one node at a time, or none."""

    def __init__(self, where: str, wire: Wire, free: Callable[[HostSession], None]) -> None:
        """`free` is called whenever it can take a node."""
        self.where = where
        self.stream = ControlStream(wire, FromHost)
        self._wire = wire
        self._free = free
        self._node: HostNode | None = None
        self._gone = ""
        self._staying = anyio.CancelScope(shield=True)

    @property
    def is_free(self) -> bool:
        return self._node is None and not self._gone

    async def stay(self) -> None:
        """Hear what it tells until it leaves, says nothing for too long, or is sent away.

        Not cut short by cancelling: a run that is cancelled has something to say to it.
        """
        try:
            with self._staying:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.stream.serve)
                    tasks.start_soon(self._listen)
                    await self._watch()
                    self._staying.cancel()
        finally:
            self._gone = self._gone or "this end has closed the connection"
            if self._node is not None:
                self._node.lost(f"was lost with its host {self.where}: {self._gone}")

    def send_away(self) -> None:
        self._staying.cancel()

    async def launch(self, node: str, incarnation: int) -> HostNode:
        """Return when the node is up. Raises HostLost, and NodeDied. Cancelled, it is dropped."""
        launched = self._node = HostNode(self)
        self.say(Launch(node, incarnation))
        try:
            await launched.listening()
        except BaseException:
            await launched.aclose()
            raise
        return launched

    def say(self, message: ToHost) -> None:
        self.stream.send_soon(message)

    async def _watch(self) -> None:
        silent = 0
        while silent < SILENT_LOOKS:
            self._wire.heard = False
            await anyio.sleep(HEARTBEAT_SECONDS)
            silent = 0 if self._wire.heard else silent + 1
        self._gone = f"nothing was heard of it for {SILENT_LOOKS * HEARTBEAT_SECONDS:g} s"

    async def _listen(self) -> None:
        try:
            async for message in self.stream:
                self._hear(message)
            self._gone = self._gone or "it has closed the connection"
        except FrameError as error:
            self._gone = f"what it said can't be read: {error}"
        self._staying.cancel()

    def _hear(self, message: FromHost) -> None:
        match message:
            case Heartbeat():
                pass
            case Ready():
                self._free(self)
            case Logged():
                relog(message)
            case Leaving(reason):
                self._gone = reason
                log.warning("the host %s leaves: %s", self.where, reason)
            case Died(reason, page):
                node, self._node = self._node, None
                if node is not None:
                    node.end(Death(reason, page))
            case _:
                if self._node is not None:
                    self._node.tell(message)


class HostNode:
    """The handle of one start of a node on a host."""

    peer: Peer

    def __init__(self, host_session: HostSession) -> None:
        self._host_session = host_session
        self._told, self._node_events = anyio.create_memory_object_stream[NodeEvents](math.inf)
        self._over = anyio.Event()
        self._death = Death("", None)
        self._host_is_lost = False

    # For the coordinator of the run.

    def post(self, order: Commands) -> None:
        if not self._over.is_set():
            if isinstance(order, PeerUp):
                order = PeerUp(tuple(map(_from_afar, order.peers)))
            self._host_session.say(order)

    async def listening(self) -> None:
        """Return when it can be reached. Raises HostLost and NodeDied."""
        async for node_event in self._node_events:
            if isinstance(node_event, Listening):
                self.peer = _from_afar(node_event.peer)
                return
        if self._host_is_lost:
            raise HostLost(self._death.reason)
        raise NodeDied(self._death.reason)

    def node_events(self) -> AsyncIterator[NodeEvents]:
        return self._node_events

    async def ended(self) -> Death:
        await self._over.wait()
        return self._death

    async def aclose(self) -> None:
        """Its host is told to end it, if it still is there, and gets no other before it has."""
        if not self._over.is_set():
            self._host_session.say(Drop())
            self.end(Death("was dropped", None))
        self._node_events.close()

    # For its host.

    def tell(self, node_event: NodeEvents) -> None:
        if not self._over.is_set():
            self._told.send_nowait(node_event)

    def end(self, death: Death) -> None:
        """What it has told can still be read; the first word counts."""
        if not self._over.is_set():
            self._death = death
            self._told.close()
            self._over.set()

    def lost(self, reason: str) -> None:
        self._host_is_lost = True
        self.end(Death(reason, None))


def _from_afar(peer: Peer) -> Peer:
    """As it is reached over the network: what is in its file system and memory is for its own host.

    Also where both are on one machine: they may belong to different users.
    """
    addresses = tuple(address for address in peer.addresses if not address.startswith("ipc:"))
    return replace(peer, addresses=addresses, host="", memory=None)
