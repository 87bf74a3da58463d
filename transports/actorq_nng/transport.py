"""The transport between processes: one endpoint for each node, a peer for each node it talks to."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import weakref
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import ClassVar

import anyio

from actorq.actors import (
    ActorqError,
    Inbox,
    LinkSchema,
    Membership,
    Peer,
    PeerSession,
    TransportStatistics,
    this_host,
)
from actorq.actors.wire.session.endpoint import Endpoint
from actorq.actors.wire.session.frame_header import Kind
from actorq.actors.wire.session.shm_arena import ShmArena, ShmMapping
from actorq.actors.wire.session.shm_lending import ShmLending

log = logging.getLogger("actorq.transports.nng")

ARENA_BYTES = 1 << 30
"""Of large arrays on their way from one node; more go by the socket."""

DRAIN_SECONDS = 0.25
"""How long closing waits for peers to confirm what they have got."""


@dataclass(slots=True)
class _Station:
    """One node of this process."""

    name: str
    inbox: Inbox
    membership: Membership
    endpoint: Endpoint
    arena: ShmArena
    addresses: tuple[str, ...]
    borders: dict[str, LinkSchema] = field(default_factory=dict)
    peer_sessions: dict[str, PeerSession] = field(default_factory=dict)
    lendings: dict[str, ShmLending] = field(default_factory=dict)


class NngTransport:
    """Carries messages over nng sockets: in the file system on one machine, by tcp between machines."""

    name: ClassVar[str] = "nng"
    crosses_processes: ClassVar[bool] = True

    def __init__(self, *, ipc: bool = True) -> None:
        """`ipc`: whether nodes on one machine use sockets in the file system and shared memory."""
        self._ipc = ipc
        self._host = this_host()
        self._stations: dict[str, _Station] = {}
        self._own_folder: str | None = None

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        """Listen. Raises ActorqError for an address that can't be listened at."""
        endpoint = Endpoint(
            me=node,
            incarnation=membership.incarnation,
            run=membership.run,
            secret=membership.secret,
            max_frame_bytes=membership.max_frame_bytes,
            received=partial(self._received, node),
            tls=membership.tls,
        )
        addresses = list(membership.addresses)
        if self._ipc:
            # The name tells nothing, and is short: a socket's path may have 107 bytes.
            addresses.insert(0, f"ipc://{self._folder(membership)}/{secrets.token_hex(6)}")
        bound = tuple(endpoint.listen(address) for address in addresses)
        self._stations[node] = _Station(node, inbox, membership, endpoint, ShmArena(ARENA_BYTES), bound)

    def _folder(self, membership: Membership) -> str:
        if membership.folder is not None:
            return membership.folder
        if self._own_folder is None:
            self._own_folder = tempfile.mkdtemp(prefix="actorq-")
            weakref.finalize(self, shutil.rmtree, self._own_folder, ignore_errors=True)
        return self._own_folder

    def route(self, link_schema: LinkSchema) -> Inbox:
        station = self._stations[link_schema.me]
        if link_schema.peer_session == link_schema.me:
            return station.inbox
        peer_session = PeerSession(link_schema, station.inbox, station.membership.max_frame_bytes)
        station.borders[link_schema.peer_session] = link_schema
        station.peer_sessions[link_schema.peer_session] = peer_session
        return peer_session

    def address_of(self, node: str) -> Peer | None:
        station = self._stations[node]
        memory = station.arena.fd if self._ipc else None
        incarnation = station.membership.incarnation
        return Peer(node, incarnation, station.addresses, self._host, os.getpid(), memory)

    def peer_up(self, node: str, peer: Peer) -> None:
        """Raises ActorqError if none of the peer's addresses can be reached from here."""
        station = self._stations[node]
        self._forget(station, peer.name)
        near = self._ipc and peer.host == self._host
        window = _window(peer) if near else None
        there = replace(
            peer, addresses=(_address(peer, near),), memory=peer.memory if window is not None else None
        )
        envelopes, answers = station.endpoint.peer_up(there, station.borders[peer.name].digest)
        lending = None
        peer_session = station.peer_sessions[peer.name]
        if near:
            let_go = partial(station.endpoint.ring, peer_session.let_go)
            lending = ShmLending(station.arena, peer, window, let_go, lambda: envelopes.borrowed)
            station.lendings[peer.name] = lending
        peer_session.peer_up(envelopes, answers, lending)

    def peer_down(self, node: str, peer: str) -> None:
        station = self._stations[node]
        station.endpoint.peer_down(peer)
        self._forget(station, peer)

    def _forget(self, station: _Station, peer: str) -> None:
        lending = station.lendings.pop(peer, None)
        if lending is not None:
            lending.close()

    def _received(self, node: str, peer: str, kind: Kind, body: memoryview) -> None:
        peer_session = self._stations[node].peer_sessions[peer]
        if kind is Kind.LETTERS:
            peer_session.envelopes_received(body)
        else:
            peer_session.answers_received(body)

    def statistics(self) -> TransportStatistics:
        counts = [asdict(station.endpoint.statistics()) for station in self._stations.values()]
        return sum((TransportStatistics(**each) for each in counts), TransportStatistics())

    def cut(self) -> None:
        """Close all present connections, as a failing network would; they come back by themselves."""
        for station in self._stations.values():
            station.endpoint.cut()

    async def serve(self) -> None:
        """Carry frames until cancelled or closed."""
        async with anyio.create_task_group() as tasks:
            for station in self._stations.values():
                tasks.start_soon(station.endpoint.serve)

    async def close(self) -> None:
        """Drain for a moment, and let go of sockets, shared memory and files; cancelled, without draining."""
        try:
            with anyio.move_on_after(DRAIN_SECONDS):
                async with anyio.create_task_group() as tasks:
                    for station in self._stations.values():
                        tasks.start_soon(station.endpoint.close)
        finally:
            for station in self._stations.values():
                for peer in list(station.lendings):
                    self._forget(station, peer)
                station.arena.close()
            if self._own_folder is not None:
                shutil.rmtree(self._own_folder, ignore_errors=True)
                self._own_folder = None


def _window(peer: Peer) -> ShmMapping | None:
    """On the peer's shared memory, or None: the kernel may hide it, or the peer may have died since."""
    if peer.memory is None:
        return None
    try:
        return ShmMapping(peer.pid, peer.memory)
    except OSError as error:
        log.warning("no shared memory from %s, its large arrays go by the socket: %s", peer.name, error)
        return None


def _address(peer: Peer, near: bool) -> str:
    """The one to dial."""
    for address in peer.addresses:
        if address.startswith("ipc://") == near:
            return address
    kind = "in the file system" if near else "on the network"
    raise ActorqError(f"node {peer.name} listens at {', '.join(peer.addresses) or 'nothing'}: nowhere {kind}")
