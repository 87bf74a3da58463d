"""Base class of the transports between processes: everything but the network, which a FrameWire provides."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import anyio

from actorq.actors.errors import ActorqError
from actorq.actors.runtime.inbox import Inbox
from actorq.actors.statistics import TransportStatistics
from actorq.actors.wire.link_schema import LinkSchema
from actorq.actors.wire.peer_session import PeerSession
from actorq.actors.wire.tls import Tls
from actorq.actors.wire.transport import Membership, Peer, this_host

from .endpoint import Endpoint
from .shm_arena import ShmArena, ShmMapping
from .shm_lending import ShmLending
from .wire import FrameReceiver, FrameWire

log = logging.getLogger("actorq.transports")

ARENA_BYTES = 1 << 30
"""Shared memory for large arrays sent by one node; beyond, they are sent in frames."""

DRAIN_SECONDS = 0.25
"""How long closing waits for peers to acknowledge what they have received."""


@dataclass(slots=True)
class _LocalNode:
    """State of one node in this process."""

    inbox: Inbox
    membership: Membership
    endpoint: Endpoint
    arena: ShmArena
    addresses: tuple[str, ...]
    link_schemas: dict[str, LinkSchema] = field(default_factory=dict)
    peer_sessions: dict[str, PeerSession] = field(default_factory=dict)
    lendings: dict[str, ShmLending] = field(default_factory=dict)


class SessionTransport(ABC):
    """A transport with a reliable session to each peer, over the wire of a subclass.

    Nodes on one machine use `ipc://` addresses in a private folder and shared memory for large arrays, others
    the addresses of `Membership`.
    """

    name: ClassVar[str]
    crosses_processes: ClassVar[bool] = True

    def __init__(self, *, ipc: bool = True) -> None:
        """`ipc`: whether nodes on one machine use sockets in the file system and shared memory."""
        self._ipc = ipc
        self._host = this_host()
        self._nodes: dict[str, _LocalNode] = {}
        self._own_folder: str | None = None

    @abstractmethod
    def make_wire(self, receiver: FrameReceiver, max_bytes: int, tls: Tls | None) -> FrameWire:
        """The wire of one node. It must refuse frames of more than `max_bytes` before reading them."""

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        """Listen. Raises ActorqError for an address that can't be listened at."""
        endpoint = Endpoint(
            me=node,
            incarnation=membership.incarnation,
            run=membership.run,
            secret=membership.secret,
            max_frame_bytes=membership.max_frame_bytes,
            make_wire=partial(self.make_wire, tls=membership.tls),
        )
        addresses = list(membership.addresses)
        if self._ipc:
            # A random name reveals nothing, and is short: a socket's path has at most 107 bytes.
            addresses.insert(0, f"ipc://{self._folder(membership)}/{secrets.token_hex(6)}")
        bound = tuple(endpoint.listen(address) for address in addresses)
        self._nodes[node] = _LocalNode(inbox, membership, endpoint, ShmArena(ARENA_BYTES), bound)

    def _folder(self, membership: Membership) -> str:
        if membership.folder is not None:
            return membership.folder
        if self._own_folder is None:
            self._own_folder = tempfile.mkdtemp(prefix="actorq-")
            weakref.finalize(self, shutil.rmtree, self._own_folder, ignore_errors=True)
        return self._own_folder

    def route(self, link_schema: LinkSchema) -> Inbox:
        node = self._nodes[link_schema.me]
        if link_schema.peer == link_schema.me:
            return node.inbox
        peer_session = PeerSession(link_schema, node.inbox, node.membership.max_frame_bytes)
        node.link_schemas[link_schema.peer] = link_schema
        node.peer_sessions[link_schema.peer] = peer_session
        return peer_session

    def address_of(self, node: str) -> Peer | None:
        local = self._nodes[node]
        memory = local.arena.fd if self._ipc else None
        return Peer(node, local.membership.incarnation, local.addresses, self._host, os.getpid(), memory)

    def peer_up(self, node: str, peer: Peer) -> None:
        """Raises ActorqError if none of the peer's addresses can be reached from here."""
        local = self._nodes[node]
        self._end_lending(local, peer.name)
        near = self._ipc and peer.host == self._host
        mapping = _map_memory(peer) if near else None
        there = replace(
            peer, addresses=(_address(peer, near),), memory=peer.memory if mapping is not None else None
        )
        peer_session, digest = local.peer_sessions[peer.name], local.link_schemas[peer.name].digest
        envelopes, answers = local.endpoint.peer_up(there, digest, peer_session)
        lending = None
        if near:
            let_go = partial(local.endpoint.call_soon, peer_session.let_go)
            lending = ShmLending(local.arena, peer, mapping, let_go, lambda: envelopes.borrowed)
            local.lendings[peer.name] = lending
        peer_session.peer_up(envelopes, answers, lending)

    def peer_down(self, node: str, peer: str) -> None:
        local = self._nodes[node]
        local.endpoint.peer_down(peer)
        self._end_lending(local, peer)

    def _end_lending(self, local: _LocalNode, peer: str) -> None:
        lending = local.lendings.pop(peer, None)
        if lending is not None:
            lending.close()

    def statistics(self) -> TransportStatistics:
        return sum((local.endpoint.statistics() for local in self._nodes.values()), TransportStatistics())

    def cut(self) -> None:
        """Close all present connections, as a failing network would; they come back by themselves."""
        for local in self._nodes.values():
            local.endpoint.cut()

    async def serve(self) -> None:
        """Carry frames until cancelled or closed."""
        async with anyio.create_task_group() as tasks:
            for local in self._nodes.values():
                tasks.start_soon(local.endpoint.serve)

    async def close(self) -> None:
        """Drain for a moment, then release sockets, shared memory and files; cancelled, without draining."""
        try:
            with anyio.move_on_after(DRAIN_SECONDS):
                async with anyio.create_task_group() as tasks:
                    for local in self._nodes.values():
                        tasks.start_soon(local.endpoint.close)
        finally:
            for local in self._nodes.values():
                for peer in list(local.lendings):
                    self._end_lending(local, peer)
                local.arena.close()
            if self._own_folder is not None:
                shutil.rmtree(self._own_folder, ignore_errors=True)
                self._own_folder = None


def _map_memory(peer: Peer) -> ShmMapping | None:
    """Map the peer's shared memory; None if the kernel hides it, or the peer has died."""
    if peer.memory is None:
        return None
    try:
        return ShmMapping(peer.pid, peer.memory)
    except OSError as error:
        log.warning("no shared memory with %s, large arrays use the socket: %s", peer.name, error)
        return None


def _address(peer: Peer, near: bool) -> str:
    """The address to dial."""
    for address in peer.addresses:
        if address.startswith("ipc://") == near:
            return address
    kind = "in the file system" if near else "on the network"
    raise ActorqError(f"node {peer.name} listens at {', '.join(peer.addresses) or 'nothing'}: nowhere {kind}")
