"""What the coordinator of a run and a host that has joined say to each other, besides orders and node
events."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal

import anyio
import msgspec
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from actorq.actors.supervision.control_messages import Commands, NodeEvents
from actorq.launchers.log_forwarding import Logged
from actorq.topology.address import bracketed

from .certificates import Certificates

HEARTBEAT_SECONDS = 0.5
"""How often a host says that it is there."""

GOODBYE_SECONDS = 0.5
"""How long to wait for the other end to take the last words."""

UNACKNOWLEDGED_MS = 10_000
"""A connection is given up when the other end's kernel confirms nothing for so long."""


class _Said(msgspec.Struct, frozen=True, tag=True):
    pass


class Enter(_Said, frozen=True, tag=True):
    """From the coordinator, once: the run as text, which the host checks for itself."""

    topology: str
    """TOML, as `actorq.topology.check` takes it."""
    backend: Literal["asyncio", "trio"]


class Launch(_Said, frozen=True, tag=True):
    """Start this node. Answered by Listening and what it tells from then on, and by Died in the end."""

    node: str
    incarnation: int


class Drop(_Said, frozen=True, tag=True):
    """End the node at once."""


class Over(_Said, frozen=True, tag=True):
    """The run has ended."""

    failure: str
    """Why it failed; empty if it didn't."""


class Ready(_Said, frozen=True, tag=True):
    """From the host: it can take a node."""


class Leaving(_Said, frozen=True, tag=True):
    """It takes none, or no more."""

    reason: str


class Heartbeat(_Said, frozen=True, tag=True):
    """It is there."""


class Died(_Said, frozen=True, tag=True):
    """The node's process has ended; see Death."""

    reason: str
    page: bytes | None


ToHost = Enter | Launch | Drop | Over | Commands
FromHost = Ready | Leaving | Heartbeat | Died | Logged | NodeEvents


def anywhere(host: str, tls: Certificates | None) -> str:
    """An address for a transport to listen at: a free port of this interface."""
    return f"{'tcp' if tls is None else 'tls+tcp'}://{bracketed(host)}:0"


class Wire(ByteStream):
    """A connection between hosts, plain or under TLS, that tells whether something came over it.

    Whatever breaks it is a BrokenResourceError.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.heard = False
        """Something came since this was last set to False."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            content = await self._stream.receive(max_bytes)
        except OSError as error:  # ssl.SSLError is one
            raise anyio.BrokenResourceError from error
        self.heard = True
        return content

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.send(item)
        except (OSError, anyio.EndOfStream) as error:  # TLS meets the end also when it writes
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        raise NotImplementedError("TLS has no such thing")

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


def give_up_in_time(stream: SocketStream) -> None:
    """See UNACKNOWLEDGED_MS; without, a cut cable is noticed after many minutes."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""What reading, writing or securing a stream raises when the other end is gone or refuses."""


def tells_no_certificate(error: BaseException | None) -> bool:
    """Whether TLS failed, rather than the connection."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLSyscallError):
            return True
        error = error.__cause__ or error.__context__
    return False
