"""The session's wire over nng: one PULL socket for each node, one PUSH socket per outgoing connection."""

from __future__ import annotations

from functools import partial

import anyio
from anyio.lowlevel import checkpoint

from actorq.actors.errors import ActorqError
from actorq.actors.runtime.loop_waker import LoopWaker
from actorq.actors.wire.session.wire import FrameReceiver
from actorq.actors.wire.tls import Tls

from .sockets import Dialer, Listener

BURST_FRAMES = 64
"""Received before other tasks of the loop run."""
HANDSHAKE_SECONDS = 2.0
"""A TCP or TLS handshake is ended after at least this time, and at most twice as long."""
MAX_UNSEEN = 192
"""Bound on connections that the loop has not processed yet; beyond it, while the loop is busy, nng's thread
refuses new ones, since file descriptors are finite.
"""


class NngWire:
    """Receives over a PULL socket and dials by PUSH sockets. Schemes: ipc, tcp, tls+tcp."""

    def __init__(self, receiver: FrameReceiver, max_bytes: int, tls: Tls | None) -> None:
        self._receiver = receiver
        self._tls = tls
        self._waker = LoopWaker()
        self._open: set[int] = set()
        self._listener = Listener(
            self._waker,
            max_bytes=max_bytes,
            tls=tls,
            admits=lambda connections: connections - len(self._open) <= MAX_UNSEEN,
            turned_away=partial(receiver.turned_away, 1),
            opened=self._opened,
            closed=self._closed,
        )

    def listen(self, address: str) -> str:
        if address.startswith("tls+tcp://") and self._tls is None:
            raise ActorqError(f"can't listen at {address} without a certificate")
        return self._listener.listen(address)

    async def dial(self, address: str) -> Dialer:
        dialer = Dialer(address, self._waker, tls=self._tls)
        try:
            await dialer.connected.wait()
        except BaseException:
            dialer.close()
            raise
        return dialer

    async def serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            for work in (self._waker.serve, self._receive, self._end_handshakes):
                tasks.start_soon(work)

    def hang_up(self, connection: int) -> None:
        self._listener.hang_up(connection)

    def refused(self) -> int:
        return self._listener.refused()

    def close(self) -> None:
        self._listener.close()
        self._waker.close()

    async def _receive(self) -> None:
        while True:
            await anyio.wait_readable(self._listener.fd)
            self._receive_waiting()
            # Tasks that a frame has woken run first: registering for the next frame takes a while.
            await checkpoint()

    def _receive_waiting(self) -> None:
        listener, receiver = self._listener, self._receiver
        for _ in range(BURST_FRAMES):
            taken = listener.take()
            if taken is None:
                return
            receiver.frame(*taken)
            if not listener.readable():
                return

    async def _end_handshakes(self) -> None:
        while True:
            await anyio.sleep(HANDSHAKE_SECONDS)
            self._receiver.turned_away(self._listener.end_handshakes())

    def _opened(self, connection: int) -> None:
        self._open.add(connection)
        self._receive_waiting()  # hellos that have arrived come before the count of silent connections
        self._receiver.opened(connection)

    def _closed(self, connection: int) -> None:
        self._open.discard(connection)
        self._receiver.closed(connection)
