"""Time limit for TCP and TLS handshakes that nng hasn't completed: nng's own is ten seconds, over TLS none.

nng doesn't report these connections, so they are found among the descriptors of this process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path


class Handshakes:
    """Handshakes in progress at some TCP ports of this process."""

    def __init__(self) -> None:
        self._ports: set[int] = set()
        self._seen: set[int] = set()
        """Inodes of the connections that were in their handshake at the last sweep."""
        self._ended: set[int] = set()
        """Connections that were ended and that nng hasn't closed yet."""

    def watch(self, port: int) -> None:
        """Include the connections to this port."""
        if not self._ports:
            # A descriptor of our own, to duplicate those that nng may close at any moment. Opened
            # now: later there may be none left. Of the family with the longest addresses.
            self._rest, self._hand = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self._ports.add(port)

    def sweep(self, through: Callable[[], Collection[str]]) -> int:
        """End the connections whose handshake was in progress at the last sweep already; returns their
        number.

        `through` returns the far ends, as "host:port" or "[host]:port", of the connections whose handshake is
        complete.
        """
        if not self._ports:
            return 0
        found = list(self._connections())
        done = through()  # asked last: handshakes completed meanwhile are kept
        under_way = {inode: fd for inode, fd, far_end in found if far_end not in done}
        late = (self._seen & under_way.keys()) - self._ended
        self._seen = set(under_way)
        self._ended = (self._ended & self._seen) | late
        ended = sum(self._end(inode, under_way[inode]) for inode in late)
        self._take_in_hand(self._rest.fileno())
        return ended

    def close(self) -> None:
        """Include no connections any more."""
        if self._ports:
            self._ports.clear()
            self._rest.close()
            self._hand.close()

    def _connections(self) -> Iterator[tuple[int, int, str]]:
        """Inode, descriptor and far end of each connection."""
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # gone, or not connected
                if entry.is_socket() and int(entry.name) != self._hand.fileno():
                    inode = self._take_in_hand(int(entry.name))
                    near, far = self._hand.getsockname(), self._hand.getpeername()
                    if isinstance(near, tuple) and near[1] in self._ports:
                        host = f"[{far[0]}]" if ":" in far[0] else far[0]
                        yield inode, int(entry.name), f"{host}:{far[1]}"

    def _end(self, inode: int, fd: int) -> bool:
        """Shut the connection down: nng detects this and closes its descriptor."""
        with suppress(OSError):
            if self._take_in_hand(fd) == inode:
                self._hand.shutdown(socket.SHUT_RDWR)
                return True
        return False

    def _take_in_hand(self, fd: int) -> int:
        os.dup2(fd, self._hand.fileno(), inheritable=False)
        return os.fstat(self._hand.fileno()).st_ino
