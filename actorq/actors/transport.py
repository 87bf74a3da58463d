"""What a transport is: it moves letters between nodes, in order, and their outcomes back.

A transport is a package of its own, found through the entry-point group `actorq.transports`, whose entry is
a `Transport` class. Bounds, credit and supervision are not its business: what is posted was admitted before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar, Protocol

from .errors import ActorqError
from .letter import Letter
from .message import Message

CircleFound = Callable[[tuple[str, ...]], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """A node in another process, as its peers have to know it."""

    name: str
    incarnation: int
    """A random 63-bit number, another one for each start of the node."""
    addresses: tuple[str, ...]
    """`ipc:///…`, `tcp://host:port`, `tls+tcp://host:port`."""
    host: str
    """The machine it runs on (its boot id): sockets in the file system and shared memory reach no farther."""
    pid: int


class Inbox(Protocol):
    """The receiving side of a node."""

    def deliver(self, letter: Letter) -> None:
        """Put the letter into its target's mailbox. Never blocks, never fails."""
        ...

    def probe(self, target: str, message: type[Message], chain: tuple[str, ...], found: CircleFound) -> None:
        """Follow the waits that begin at `target`; call `found` if they lead back into `chain`."""
        ...


class Transport(Protocol):
    """One for each run and process. Everything is called from the event loop of the run."""

    name: ClassVar[str]
    crosses_processes: ClassVar[bool]

    def open(self, node: str, inbox: Inbox) -> None:
        """Begin to deliver what is sent to this node."""
        ...

    def route(self, source: str, target: str) -> Inbox:
        """The way from one node to another: what it is given arrives at the target's inbox, in order."""
        ...

    async def close(self) -> None:
        """Let go of all sockets and buffers. Cancelled, they are let go of all the same."""
        ...


def installed_transports() -> tuple[str, ...]:
    """The names that a topology file may use, sorted."""
    return tuple(sorted(point.name for point in entry_points(group="actorq.transports")))


def make_transport(name: str) -> Transport:
    """A new instance of the installed transport. Raises ActorqError naming the installed ones."""
    for point in entry_points(group="actorq.transports", name=name):
        transport: Transport = point.load()()
        return transport
    raise ActorqError(f"no transport {name!r}; installed: {', '.join(installed_transports()) or 'none'}")
