"""Reconnecting dialer of a stream: dials, sends the hello, carries frames, and starts over when cut off."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import anyio

from actorq.actors.errors import ActorqError

from .counters import Counts
from .stream import OrderedStream
from .wire import Connection, FrameWire

log = logging.getLogger("actorq.transports")

STALL_SECONDS = 2.0
"""A connection without a welcome, or with unacknowledged frames, is dropped after this time."""
MIN_BYTES_PER_SECOND = 4e6
"""Lowest throughput assumed of a live connection: large frames get more time."""
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.01, 1.0
"""Pause between the loss of a connection and the next, doubled as long as nothing is acknowledged."""


class Connector:
    """One stream's connections, one after the other."""

    def __init__(
        self,
        stream: OrderedStream,
        *,
        address: Callable[[], str],
        hello: Callable[[], tuple[int, bytes]],
        connected: Callable[[], None],
        wire: FrameWire,
        counts: Counts,
    ) -> None:
        self._stream = stream
        self._address = address
        self._hello = hello
        self._connected = connected
        self._wire = wire
        self._counts = counts
        self._scope: anyio.CancelScope | None = None
        self._welcomed = anyio.Event()
        self._connection_number = 0

    async def run(self) -> None:
        """Keep the stream connected until cancelled; the connection is closed then."""
        pause = MIN_BACKOFF_SECONDS
        while True:
            acked = self._stream.acked
            try:
                await self._use_one_connection()
            except ActorqError as error:
                log.warning("%s", error)
            healthy = self._welcomed.is_set() and (self._stream.acked > acked or not self._stream.unacked)
            pause = MIN_BACKOFF_SECONDS if healthy else min(2 * pause, MAX_BACKOFF_SECONDS)
            await anyio.sleep(pause * random.uniform(0.5, 1))

    def cut(self) -> None:
        """Close the present connection; another follows."""
        if self._scope is not None:
            self._scope.cancel()

    def welcomed(self, connection: int, received: int, ticket: int) -> bool:
        """Note the welcome to this connection's hello; False if its acknowledgement is impossible."""
        if connection != self._connection_number or self._welcomed.is_set():
            return True  # of a connection that is lost, or a repeat
        self._counts.connections += 1
        self._welcomed.set()
        return self._stream.welcomed(received, ticket)

    async def _use_one_connection(self) -> None:
        self._welcomed = anyio.Event()
        with anyio.CancelScope() as self._scope:
            try:
                connection = await self._wire.dial(self._address())
                try:
                    await self._use(connection)
                finally:
                    self._connection_number = 0
                    self._stream.lost()
                    connection.close()
            finally:
                self._scope = None

    async def _use(self, connection: Connection) -> None:
        self._connection_number, hello = self._hello()
        connection.send((hello,), len(hello))
        self._stream.connected(connection)
        self._connected()
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await connection.run()
                group.cancel_scope.cancel()

            group.start_soon(run)
            group.start_soon(self._carry, connection)  # a task of its own: its wake-ups resume one coroutine
            await self._stalled()
            group.cancel_scope.cancel()

    async def _carry(self, connection: Connection) -> None:
        while True:
            while self._stream.send_waiting():
                await connection.wait_writable()
            await self._stream.woken()

    async def _stalled(self) -> None:
        """Return when the peer shows no progress in time: a half-open connection looks alive for minutes."""
        with anyio.move_on_after(STALL_SECONDS):
            await self._welcomed.wait()
        if not self._welcomed.is_set():
            return
        while True:
            await self._stream.outstanding()
            acked = self._stream.acked
            await anyio.sleep(STALL_SECONDS + self._stream.unacked / MIN_BYTES_PER_SECOND)
            if self._stream.acked == acked and self._stream.unacked:
                return
