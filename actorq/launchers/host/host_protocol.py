"""Protocol between the coordinator and a joined host; it wraps the nodes' own commands and events."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal

import anyio
import msgspec
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from actorq.actors.supervision.control_messages import Commands, NodeEvents
from actorq.actors.wire.tls import Tls
from actorq.launchers.log_forwarding import Logged
from actorq.topology.address import bracketed

HEARTBEAT_SECONDS = 0.5
"""Interval of a host's heartbeats."""

CLOSING_SECONDS = 0.5
"""Time limit for the peer to receive the last messages."""

UNACKNOWLEDGED_MS = 10_000
"""TCP_USER_TIMEOUT: a connection breaks when sent data stay unacknowledged for this long."""


class _HostMessage(msgspec.Struct, frozen=True, tag=True):
    pass


class JoinAccepted(_HostMessage, frozen=True, tag=True):
    """Coordinator to host, once: the run as text, which the host checks itself."""

    topology: str
    """TOML, as `actorq.topology.check` takes it."""
    backend: Literal["asyncio", "trio"]


class LaunchNode(_HostMessage, frozen=True, tag=True):
    """Start this node. Answered by Listening, then the node's events, and finally NodeEnded."""

    node: str
    incarnation: int


class EndNode(_HostMessage, frozen=True, tag=True):
    """End the node at once."""


class RunEnded(_HostMessage, frozen=True, tag=True):
    """The run has ended."""

    failure: str
    """Reason of the failure; empty if the run succeeded."""


class HostReady(_HostMessage, frozen=True, tag=True):
    """Host to coordinator: it can run a node."""


class HostLeaving(_HostMessage, frozen=True, tag=True):
    """Host to coordinator: it accepts no more nodes."""

    reason: str


class Heartbeat(_HostMessage, frozen=True, tag=True):
    """Host to coordinator, every HEARTBEAT_SECONDS."""


class NodeEnded(_HostMessage, frozen=True, tag=True):
    """The node's process has ended; see Death."""

    reason: str
    page: bytes | None


ToHost = JoinAccepted | LaunchNode | EndNode | RunEnded | Commands
FromHost = HostReady | HostLeaving | Heartbeat | NodeEnded | Logged | NodeEvents


def anywhere(host: str, tls: Tls | None) -> str:
    """A listening address for a transport: a free port of this interface."""
    return f"{'tcp' if tls is None else 'tls+tcp'}://{bracketed(host)}:0"


class HostConnection(ByteStream):
    """A connection between hosts, plain or over TLS, that records whether anything was received.

    Every failure is raised as BrokenResourceError.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.received = False
        """True if something was received since this was last set to False."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        try:
            content = await self._stream.receive(max_bytes)
        except OSError as error:  # ssl.SSLError is one
            raise anyio.BrokenResourceError from error
        self.received = True
        return content

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.send(item)
        except (OSError, anyio.EndOfStream) as error:  # TLS detects the end when writing, too
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        raise NotImplementedError("TLS has no half-close")

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


def give_up_in_time(stream: SocketStream) -> None:
    """Set TCP_USER_TIMEOUT; without it a cut cable is noticed after many minutes."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""Errors of reading, writing or securing a stream whose peer is gone or refuses."""


def is_certificate_error(error: BaseException | None) -> bool:
    """Whether TLS failed because of certificates, rather than the connection."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLSyscallError):
            return True
        error = error.__cause__ or error.__context__
    return False
