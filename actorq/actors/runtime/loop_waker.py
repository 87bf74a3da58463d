"""Calls into an event loop from any thread, without waiting for the loop: it may be busy for long."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import RLock

import anyio


class LoopWaker:
    """A queue of calls that any thread may append to; the loop that runs `serve` makes them, in order.

    anyio's own calls (`from_thread.run_sync`, a portal's `start_task_soon`) hold the calling thread until the
    loop takes the call.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Held while the descriptor is used: once closed, its number could be another file's. Reentrant, since
        # the garbage collector may run a finalizer that calls in.
        self._lock = RLock()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have the loop make this call, which must not raise. Returns at once; no effect once closed."""
        with self._lock:
            if self._fd is not None:
                self._calls.append(call)
                os.eventfd_write(self._fd, 1)

    async def serve(self) -> None:
        """Make the calls as they come in, until cancelled or closed."""
        while self._fd is not None:
            await anyio.wait_readable(self._fd)
            os.eventfd_read(self._fd)
            while self._calls:
                self._calls.popleft()()

    def close(self) -> None:
        """Drop the calls not made yet. No task may be waiting in `serve` any more."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._calls.clear()
