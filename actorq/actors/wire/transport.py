"""Transport interface: carries messages between nodes in order, and their outcomes back.

A transport is a package of its own, found through the entry-point group `actorq.transports`, whose entry is a
`Transport` class. Bounds, credit and supervision are done above it: only admitted messages are posted. A
transport between processes carries frames of bytes, reliably and in order, which `PeerSession` makes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from actorq.actors.entry_points import entry_points_of
from actorq.actors.errors import ActorqError
from actorq.actors.runtime.inbox import Inbox
from actorq.actors.statistics import TransportStatistics

from .link_schema import LinkSchema
from .node_incarnation import new_incarnation
from .tls import Tls

ENTRY_POINTS = "actorq.transports"


def this_host() -> str:
    """Identifies how far Unix sockets and shared memory reach: one boot of one machine or container."""
    namespaces = [Path(f"/proc/self/ns/{kind}").stat().st_ino for kind in ("pid", "mnt")]
    return "-".join([Path("/proc/sys/kernel/random/boot_id").read_text().strip(), *map(str, namespaces)])


@dataclass(frozen=True, slots=True)
class Peer:
    """Address and incarnation of a node in another process."""

    name: str
    incarnation: int
    addresses: tuple[str, ...]
    """`ipc:///…`, `tcp://host:port`, `tls+tcp://host:port`."""
    host: str
    pid: int
    memory: int | None = None
    """File descriptor of its shared memory, for peers on the same host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a process needs to know of its run to connect to the other nodes."""

    run: str = field(default_factory=lambda: secrets.token_hex(8))
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    incarnation: int = field(default_factory=new_incarnation)
    folder: str | None = None
    """Folder private to the user, for Unix sockets; None if the transport is to create one."""
    addresses: tuple[str, ...] = ()
    """Additional addresses to listen at, for peers on other hosts."""
    tls: Tls | None = field(default=None, repr=False)
    max_frame_bytes: int = 288 * 2**20


NextFrame = Callable[[], Sequence[bytes | memoryview] | None]
"""Packs the waiting messages into the parts of the next frame; None if no message waits.

A stream is made with one, and calls it only when a frame can be sent at once, so that all messages that wait
until then share it. The parts are kept until the frame is acknowledged: their contents must never change.
"""


class FrameCodec(Protocol):
    """Encodes and decodes the frames exchanged with one peer. Called on the loop.

    A received frame is read-only, begins at a multiple of 16 bytes, and stays valid as long as any view of
    it. If it can't be decoded the call raises WireError: then it isn't acknowledged, and its connection is
    closed.
    """

    def next_envelopes(self) -> Sequence[bytes | memoryview] | None:
        """A `NextFrame`."""
        ...

    def next_answers(self) -> Sequence[bytes | memoryview] | None:
        """A `NextFrame`."""
        ...

    def envelopes_received(self, frame: memoryview) -> None: ...
    def answers_received(self, frame: memoryview) -> None: ...


class Stream(Protocol):
    """Outgoing frames to one peer: delivered in order, each exactly once, as long as both nodes run."""

    def flush(self) -> None:
        """Send what waits now, as far as possible without blocking."""
        ...

    def wake(self) -> None:
        """Send what waits at the end of the loop's present turn."""
        ...


class Transport(Protocol):
    """Carries messages of one run in one process. Called on the event loop of the run."""

    name: ClassVar[str]
    crosses_processes: ClassVar[bool]

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        """Start delivering what is sent to this node."""
        ...

    def route(self, link_schema: LinkSchema) -> Inbox:
        """The inbox at the end of a route from one node to another; delivers in order.

        A transport between processes returns a peer session, which gets its streams by `peer_up`.
        """
        ...

    def address_of(self, node: str) -> Peer | None:
        """Addresses by which peers reach an open node; None if this transport stays within one process."""
        ...

    def peer_up(self, node: str, peer: Peer) -> None:
        """`peer` can now be reached from `node`."""
        ...

    def peer_down(self, node: str, peer: str) -> None:
        """`peer` has died: drop what it has not received. It may return as another incarnation."""
        ...

    def statistics(self) -> TransportStatistics:
        """Statistics of all nodes of this process."""
        ...

    async def serve(self) -> None:
        """Carry frames until cancelled."""
        ...

    async def close(self) -> None:
        """Release all sockets and buffers; also if cancelled."""
        ...


def installed_transports() -> tuple[str, ...]:
    """Names of the installed transports, sorted."""
    return tuple(entry_points_of(ENTRY_POINTS))


def make_transport(name: str) -> Transport:
    """A new instance of the installed transport. Raises ActorqError naming the installed ones."""
    return find_transport(name)()


def find_transport(name: str) -> Callable[[], Transport]:
    """The class of the installed transport. Raises ActorqError naming the installed ones."""
    if name not in (points := entry_points_of(ENTRY_POINTS)):
        raise ActorqError(f"no transport {name!r}; installed: {', '.join(points) or 'none'}")
    found: Callable[[], Transport] = points[name].load()
    return found
