"""A transport over plain Unix and TCP sockets: the reference implementation of `FrameWire`, without TLS.

Each frame is its length, 8 bytes little-endian, and its bytes. For tests, and for reading before writing
another transport.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import ClassVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from actorq.actors import ActorqError
from actorq.actors.wire.session.frame_header import Part
from actorq.actors.wire.session.session_transport import SessionTransport
from actorq.actors.wire.session.wire import FrameReceiver
from actorq.actors.wire.tls import Tls

_LENGTH_BYTES = 8
_MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.01, 1.0

_Address = str | tuple[str, int]


class SocketTransport(SessionTransport):
    """Carries messages over plain sockets: Unix sockets on one machine, TCP between machines."""

    name: ClassVar[str] = "socket"

    def make_wire(self, receiver: FrameReceiver, max_bytes: int, tls: Tls | None) -> SocketWire:
        return SocketWire(receiver, max_bytes)


class SocketConnection:
    """An outgoing connection, with a buffer of one frame."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._unsent = memoryview(b"")
        self._filled, self._emptied = anyio.Event(), anyio.Event()

    def writable(self) -> bool:
        return not self._unsent

    def send(self, parts: Sequence[Part], size: int) -> bool:
        if self._unsent:
            return False
        frame = memoryview(b"".join((size.to_bytes(_LENGTH_BYTES, "little"), *parts)))
        try:
            self._unsent = frame[self._socket.send(frame) :]
        except BlockingIOError:
            self._unsent = frame
        except OSError:
            return False  # lost, as `run` will find
        if self._unsent:
            self._filled.set()
        return True

    async def wait_writable(self) -> None:
        await checkpoint()
        while self._unsent:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._flush)
            await anyio.wait_readable(self._socket)  # the other end sends nothing: it has closed
            tasks.cancel_scope.cancel()

    async def _flush(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = anyio.Event()
            while self._unsent:
                await anyio.wait_writable(self._socket)
                try:
                    self._unsent = self._unsent[self._socket.send(self._unsent) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return
            self._emptied.set()

    def close(self) -> None:
        self._socket.close()


class SocketWire:
    """Plain sockets of one node. Schemes: ipc, tcp."""

    def __init__(self, receiver: FrameReceiver, max_bytes: int) -> None:
        self._receiver = receiver
        self._max_bytes = max_bytes
        self._listeners: list[socket.socket] = []
        self._numbers = count(1)
        self._incoming: dict[int, anyio.CancelScope] = {}

    def listen(self, address: str) -> str:
        family, where = _parse(address)
        listener = socket.socket(family)
        try:
            if family == socket.AF_INET:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise ActorqError(f"can't listen at {address}: {error}") from error
        listener.setblocking(False)
        self._listeners.append(listener)
        if family == socket.AF_UNIX:
            return address
        host, port = listener.getsockname()
        return f"tcp://{host}:{port}"

    async def dial(self, address: str) -> SocketConnection:
        family, where = _parse(address)
        pause = _MIN_BACKOFF_SECONDS
        while True:
            dialer = socket.socket(family)
            dialer.setblocking(False)
            try:
                await _connect(dialer, where)
                return SocketConnection(dialer)
            except OSError:
                dialer.close()
            except BaseException:
                dialer.close()
                raise
            await anyio.sleep(pause)
            pause = min(2 * pause, _MAX_BACKOFF_SECONDS)

    async def serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            for listener in self._listeners:
                tasks.start_soon(self._accept, listener, tasks)
            await anyio.sleep_forever()

    def hang_up(self, connection: int) -> None:
        if (scope := self._incoming.get(connection)) is not None:
            scope.cancel()

    def refused(self) -> int:
        return 0

    def close(self) -> None:
        for listener in self._listeners:
            if listener.family == socket.AF_UNIX:
                with suppress(OSError):
                    os.unlink(listener.getsockname())  # noqa: PTH108 (a path as the kernel gives it)
            listener.close()
        self._listeners.clear()

    async def _accept(self, listener: socket.socket, tasks: TaskGroup) -> None:
        while True:
            await anyio.wait_readable(listener)
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:  # out of file descriptors, say
                await anyio.sleep(_MIN_BACKOFF_SECONDS)
                continue
            accepted.setblocking(False)
            tasks.start_soon(self._receive, accepted)

    async def _receive(self, accepted: socket.socket) -> None:
        connection = next(self._numbers)
        with accepted, anyio.CancelScope() as self._incoming[connection]:
            self._receiver.opened(connection)
            while (frame := await self._read_frame(accepted)) is not None:
                self._receiver.frame(connection, frame)
        del self._incoming[connection]
        self._receiver.closed(connection)

    async def _read_frame(self, accepted: socket.socket) -> memoryview | None:
        """The next frame, or None when the connection has ended or the frame is too large."""
        with suppress(OSError, EOFError):
            size = int.from_bytes(await _read(accepted, _LENGTH_BYTES), "little")
            if size <= self._max_bytes:
                return await _read(accepted, size)
        return None


async def _connect(dialer: socket.socket, where: _Address) -> None:
    """Raises OSError when it is refused."""
    with suppress(BlockingIOError):
        dialer.connect(where)
    await anyio.wait_writable(dialer)
    if error := dialer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
    dialer.getpeername()


async def _read(source: socket.socket, size: int) -> memoryview:
    """That many bytes, read-only. Raises EOFError when the connection ends before."""
    buffer = memoryview(bytearray(size))
    start = 0
    while start < size:
        await anyio.wait_readable(source)
        with suppress(BlockingIOError):
            received = source.recv_into(buffer[start:])
            if not received:
                raise EOFError
            start += received
    return buffer.toreadonly()


def _parse(address: str) -> tuple[socket.AddressFamily, _Address]:
    """Family and address of `ipc:///path` or `tcp://host:port`. Raises ActorqError for anything else."""
    scheme, _, where = address.partition("://")
    host, _, port = where.rpartition(":")
    if scheme == "ipc":
        return socket.AF_UNIX, where
    if scheme == "tcp" and port.isdigit():
        return socket.AF_INET, (host, int(port))
    raise ActorqError(f"{address} is no address of a plain socket: ipc:///path or tcp://host:port")
