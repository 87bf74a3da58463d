"""How nng's threads call into the event loop: they leave a call and raise a file descriptor."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import RLock

import anyio


class LoopWaker:
    """A queue of calls that any thread may fill and that one task of the loop makes, in order."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = RLock()  # or the number could be another file's by the time it is written to

    def ring(self, call: Callable[[], object]) -> None:
        """Have the loop make this call; for any thread, and never blocks for long. Nothing once closed."""
        self._calls.append(call)
        with self._lock:
            if self._fd is not None:
                os.eventfd_write(self._fd, 1)

    async def answer(self) -> None:
        """Make the calls as they come in, until cancelled; calls not made yet stay for `close` to forget."""
        while self._fd is not None:
            await anyio.wait_readable(self._fd)
            os.eventfd_read(self._fd)
            while self._calls:
                self._calls.popleft()()

    def close(self) -> None:
        """Forget what wasn't called yet. No task may be in `answer` any more."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._calls.clear()
