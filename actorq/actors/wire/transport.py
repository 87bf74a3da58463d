"""What a transport is: it moves messages between nodes, in order, and their outcomes back.

A transport is a package of its own, found through the entry-point group `actorq.transports`, whose entry is
a `Transport` class. Bounds, credit and supervision are not its business: what is posted was admitted before.
One that crosses processes carries frames of bytes, reliably and in order; `PeerSession` makes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from actorq.actors.entry_points import entry_points_of
from actorq.actors.errors import ActorqError
from actorq.actors.runtime.inbox import Inbox
from actorq.actors.statistics import TransportStatistics

from .link_schema import LinkSchema
from .node_incarnation import new_incarnation

ENTRY_POINTS = "actorq.transports"


def this_host() -> str:
    """How far sockets in the file system and shared memory reach: one boot of a machine, or one container."""
    namespaces = [Path(f"/proc/self/ns/{kind}").stat().st_ino for kind in ("pid", "mnt")]
    return "-".join([Path("/proc/sys/kernel/random/boot_id").read_text().strip(), *map(str, namespaces)])


@dataclass(frozen=True, slots=True)
class Peer:
    """A node in another process, as its peers have to know it."""

    name: str
    incarnation: int
    addresses: tuple[str, ...]
    """`ipc:///…`, `tcp://host:port`, `tls+tcp://host:port`."""
    host: str
    pid: int
    memory: int | None = None
    """The file descriptor of its shared memory, for those on the same host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a process has to know of its run to reach the others."""

    run: str = field(default_factory=lambda: secrets.token_hex(8))
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    incarnation: int = field(default_factory=new_incarnation)
    folder: str | None = None
    """Private to the user, for sockets in the file system; None where the transport is to make its own."""
    addresses: tuple[str, ...] = ()
    """Where to listen besides, for peers on other hosts."""
    tls: Any = field(default=None, repr=False)
    max_frame_bytes: int = 288 * 2**20


NextFrame = Callable[[], Sequence[bytes | memoryview] | None]
"""Packs the messages that wait into the next frame's parts; None if none waits.

A stream is made with one, and calls it only for a frame that can be sent at once, so that all messages that
wait until then share it. The parts are kept until the frame is acknowledged: their contents never change.
"""


class FrameCodec(Protocol):
    """Contents of the frames exchanged with one peer; the methods are called on the loop.

    A received frame is read-only, begins at a multiple of 16 bytes, and stays valid as long as any view of
    it. If it can't be decoded the call raises WireError: it isn't acknowledged, and its connection is closed.
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
    """Frames to one peer: carried in order, each exactly once, while both nodes live."""

    def flush(self) -> None:
        """Send what there is now, as far as that goes without waiting."""
        ...

    def wake(self) -> None:
        """Send what there is when the loop's present turn is over."""
        ...


class Transport(Protocol):
    """One for each run and process. Everything is called on the event loop of the run."""

    name: ClassVar[str]
    crosses_processes: ClassVar[bool]

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        """Begin to deliver what is sent to this node."""
        ...

    def route(self, link_schema: LinkSchema) -> Inbox:
        """The way from one node to another: what it is given arrives at the other's inbox, in order.

        A transport that crosses processes gives a peer, to which `meet` brings its streams.
        """
        ...

    def address_of(self, node: str) -> Peer | None:
        """How an opened node's peers reach it; None if this transport stays within one process."""
        ...

    def peer_up(self, node: str, peer: Peer) -> None:
        """`peer` can be reached from `node` now."""
        ...

    def peer_down(self, node: str, peer: str) -> None:
        """`peer` has died: forget what it hasn't got. It may come back, under another incarnation."""
        ...

    def statistics(self) -> TransportStatistics:
        """Of all nodes here."""
        ...

    async def serve(self) -> None:
        """Carry frames until cancelled."""
        ...

    async def close(self) -> None:
        """Let go of all sockets and buffers. Cancelled, they are let go of all the same."""
        ...


def installed_transports() -> tuple[str, ...]:
    """The names that a topology file may use, sorted."""
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
