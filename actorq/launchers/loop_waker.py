"""From any thread to an event loop, without waiting for it: the loop may be at work for long."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

import anyio


class LoopWaker:
    """Functions handed to the event loop that runs `serve`, and called there in order.

    anyio's own ways (`from_thread.run_sync`, a portal's `start_task_soon`) hold the calling thread until the
    loop takes the call; here neither side waits for the other.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._closing = Lock()
        self._closed = False

    def call_soon(self, function: Callable[[], object]) -> None:
        """Hand over a function that doesn't raise; from any thread, at once. Dropped if this is closed."""
        self._calls.append(function)
        with self._closing:
            if not self._closed:
                with suppress(BlockingIOError):  # no room for one more ring: it is ringing already
                    self._rope.send(b"!")

    async def serve(self) -> None:
        """Call what is handed over, until cancelled."""
        while True:
            await anyio.wait_readable(self._bell)
            self._bell.recv(4096)
            while self._calls:
                self._calls.popleft()()

    def close(self) -> None:
        """Once nobody serves any more."""
        with self._closing:
            self._closed = True
            self._bell.close()
            self._rope.close()
