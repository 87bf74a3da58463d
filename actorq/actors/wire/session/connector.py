"""Keeps a stream connected: dials, says hello, carries frames, and begins anew when that is lost."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import anyio

from actorq.actors.errors import ActorqError
from actorq_nng.sockets import Dialer, Tls
from actorq_nng.waker import LoopWaker

from .counters import Counts
from .stream import OrderedStream

log = logging.getLogger("actorq.transports.nng")

PATIENCE_SECONDS = 2.0
"""Without a welcome, or with frames on their way and no acknowledgement: then a connection is dropped."""
SLOWEST_BYTES_PER_SECOND = 4e6
"""What a live connection is taken to carry at least: large frames get more time."""
SOONEST_SECONDS, LATEST_SECONDS = 0.01, 1.0
"""Between the loss of a connection and the next, doubled while they do no good."""


class Connector:
    """One stream's connections, one after the other."""

    def __init__(
        self,
        stream: OrderedStream,
        *,
        address: Callable[[], str],
        hello: Callable[[], tuple[int, bytes]],
        connected: Callable[[], None],
        waker: LoopWaker,
        tls: Tls | None,
        counts: Counts,
    ) -> None:
        self._stream = stream
        self._address = address
        self._hello = hello
        self._connected = connected
        self._bell = waker
        self._tls = tls
        self._counts = counts
        self._scope: anyio.CancelScope | None = None
        self._welcomed = anyio.Event()
        self._connection = 0

    async def run(self) -> None:
        """Until cancelled; the connection is closed then."""
        pause = SOONEST_SECONDS
        while True:
            acked = self._stream.acked
            try:
                await self._converse()
            except ActorqError as error:
                log.warning("%s", error)
            healthy = self._welcomed.is_set() and (self._stream.acked > acked or not self._stream.unacked)
            pause = SOONEST_SECONDS if healthy else min(2 * pause, LATEST_SECONDS)
            await anyio.sleep(pause * random.uniform(0.5, 1))

    def cut(self) -> None:
        """Close the present connection; another follows."""
        if self._scope is not None:
            self._scope.cancel()

    def welcomed(self, connection: int, received: int, ticket: int) -> bool:
        """The peer took the hello of this connection; False if what it says can't be."""
        if connection != self._connection or self._welcomed.is_set():
            return True  # late, for one that is lost, or told twice
        self._counts.connections += 1
        self._welcomed.set()
        return self._stream.welcomed(received, ticket)

    async def _converse(self) -> None:
        """Make one connection and use it until it is lost."""
        stands = anyio.Event()
        self._welcomed = anyio.Event()
        with anyio.CancelScope() as scope:
            dialer = Dialer(
                self._address(), self._bell, tls=self._tls, connected=stands.set, gone=scope.cancel
            )
            self._scope = scope
            try:
                await stands.wait()
                self._connection, hello = self._hello()
                dialer.send((hello,), len(hello))
                self._stream.connected(dialer)
                self._connected()
                async with anyio.create_task_group() as group:
                    group.start_soon(self._carry, dialer)
                    await self._watch()
                    group.cancel_scope.cancel()
            finally:
                self._scope, self._connection = None, 0
                self._stream.lost()
                dialer.close()

    async def _carry(self, dialer: Dialer) -> None:
        while True:
            while self._stream.send_waiting():
                await dialer.wait_writable()
            await self._stream.woken()

    async def _watch(self) -> None:
        """Until the connection does no good any more: a half-open one looks alive for many minutes."""
        with anyio.move_on_after(PATIENCE_SECONDS):
            await self._welcomed.wait()
        if not self._welcomed.is_set():
            return
        while True:
            await self._stream.outstanding()
            acked = self._stream.acked
            await anyio.sleep(PATIENCE_SECONDS + self._stream.unacked / SLOWEST_BYTES_PER_SECOND)
            if self._stream.acked == acked and self._stream.unacked:
                return
