"""Shared-memory arena for large arrays between processes of one host: copied in once, read by many.

The sender has an `ShmArena`, each reader an `ShmMapping`. Offsets and releases are sent in messages.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actorq.actors.wire.arrays import ALIGNMENT, aligned

# A mapped file that shrinks kills its reader by SIGBUS, whatever was checked before.
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class _Block:
    """A copy of one array, lent to some readers."""

    __slots__ = ("key", "leases", "nbytes", "source")

    def __init__(self, source: NDArray[Any], nbytes: int) -> None:
        self.source = weakref.ref(source)  # distinguishes the array from a later one of the same id
        self.key = id(source)
        self.nbytes = nbytes
        self.leases: Counter[Hashable] = Counter()


class ShmArena:
    """Shared memory in which one sender lends copies of its arrays.

    It is an unnamed file (memfd) of `limit_bytes`; only pages that were used take memory, which is released
    when the last process that has the file open ends, in any way. Not thread-safe.
    """

    fd: int
    """Other processes of the same user open it as `/proc/<pid>/fd/<fd>`."""

    def __init__(self, limit_bytes: int) -> None:
        size = limit_bytes // ALIGNMENT * ALIGNMENT
        if size <= 0:
            raise ValueError(f"an arena of {limit_bytes} bytes has no room for a block of {ALIGNMENT}")
        self.fd = os.memfd_create("actorq", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _FIXED_SIZE)
            self._memory = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise
        self._gaps = _Gaps(size)
        self._backed = 0  # bytes from the start that have pages
        self._blocks: dict[int, _Block] = {}
        self._offsets: dict[int, int] = {}  # id of a lent array -> its block's offset

    def place(self, array: NDArray[Any], reader: Hashable) -> int | None:
        """Lend a C-ordered copy of the array to the reader, until `freed` or `forget`; returns its offset.

        While a block of the same array object is lent to any reader it is lent again, not copied. The array
        must be read-only and must not change (ValueError). None if there is no room, or for an empty array.
        """
        if array.flags.writeable:
            raise ValueError("only a read-only array can be lent: it is copied once for all its readers")
        offset = self._offsets.get(id(array))
        if offset is None or self._blocks[offset].source() is not array:
            offset = self._copy(array)
        if offset is not None:
            self._blocks[offset].leases[reader] += 1
        return offset

    def freed(self, reader: Hashable, offset: int) -> None:
        """End one lease. Raises ValueError if the reader has none at this offset."""
        block = self._blocks.get(offset)
        if block is None or reader not in block.leases:
            raise ValueError(f"{reader!r} releases a block at {offset} that it was not lent")
        block.leases[reader] -= 1
        if not block.leases[reader]:
            self._end_leases(offset, reader)

    def forget(self, reader: Hashable) -> None:
        """End all leases of a dead reader: its blocks may be overwritten."""
        for offset in [offset for offset, block in self._blocks.items() if reader in block.leases]:
            self._end_leases(offset, reader)

    def close(self) -> None:
        """Release the memory; readers keep their mappings. Idempotent."""
        if not self._memory.closed:
            self._memory.close()
            os.close(self.fd)

    def _copy(self, array: NDArray[Any]) -> int | None:
        nbytes = aligned(array.nbytes)
        offset = self._gaps.find(nbytes)
        if offset is None or nbytes == 0 or not self._back(offset + nbytes):
            return None
        np.copyto(np.ndarray(array.shape, array.dtype, self._memory, offset), array)
        self._gaps.take(offset, nbytes)
        self._blocks[offset] = _Block(array, nbytes)
        self._offsets[id(array)] = offset
        return offset

    def _back(self, end: int) -> bool:
        """Allocate the pages up to `end`: when memory is short, a write to a page without memory would kill
        the process.
        """
        if end > self._backed:
            try:
                os.posix_fallocate(self.fd, self._backed, end - self._backed)
            except OSError:
                return False
            self._backed = end
        return True

    def _end_leases(self, offset: int, reader: Hashable) -> None:
        block = self._blocks[offset]
        del block.leases[reader]
        if not block.leases:
            del self._blocks[offset]
            self._gaps.give(offset, block.nbytes)
            if self._offsets.get(block.key) == offset:  # and not a later array's of the same id
                del self._offsets[block.key]


class _Gaps:
    """Free ranges of the arena, in order, with no two adjacent.

    Best fit: pages that were written before cost a sixth of fresh ones, and those are in the last and largest
    range.
    """

    def __init__(self, size: int) -> None:
        self._gaps = [(0, size)]  # (start, end)

    def find(self, nbytes: int) -> int | None:
        fitting = [(end - start, start) for start, end in self._gaps if end - start >= nbytes]
        return min(fitting)[1] if fitting else None

    def take(self, start: int, nbytes: int) -> None:
        """Take a block from the start of a range; None if none is large enough."""
        index = bisect_left(self._gaps, (start,))
        end = self._gaps[index][1]
        self._gaps[index : index + 1] = [(start + nbytes, end)] if start + nbytes < end else []

    def give(self, start: int, nbytes: int) -> None:
        end = start + nbytes
        first = last = bisect_left(self._gaps, (start,))
        if first > 0 and self._gaps[first - 1][1] == start:
            first -= 1
            start = self._gaps[first][0]
        if last < len(self._gaps) and self._gaps[last][0] == end:
            end = self._gaps[last][1]
            last += 1
        self._gaps[first:last] = [(start, end)]


class ShmMapping:
    """Read-only mapping of another process's arena; stays valid after that process has died."""

    def __init__(self, pid: int, fd: int) -> None:
        """Raises OSError if there is no such file, if it can't be read, or if it is not an arena."""
        path = f"/proc/{pid}/fd/{fd}"
        own = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
        try:
            if _seals(own) & _FIXED_SIZE != _FIXED_SIZE or not os.fstat(own).st_size:
                raise OSError(errno.EINVAL, "not the arena of an actorq node: its size could change", path)
            self._memory: mmap.mmap | None = mmap.mmap(own, 0, prot=mmap.PROT_READ)
        finally:
            os.close(own)

    def view(self, offset: int, nbytes: int, let_go: Callable[[int], object]) -> memoryview:
        """The bytes of a block, read-only.

        `let_go(offset)` is called once, when the last array over them is collected, in the thread in which
        that happens: it must neither wait nor raise. It is not called at the interpreter's exit. Raises
        ValueError for an offset or a length that no block can have.
        """
        if self._memory is None:
            raise ValueError("the mapping is closed")
        if offset % ALIGNMENT or nbytes < 1 or not 0 <= offset <= len(self._memory) - nbytes:
            raise ValueError(f"no block of {nbytes} bytes at {offset} in an arena of {len(self._memory)}")
        # Made from the mapping itself: numpy makes an array's base the innermost array, which is this one.
        lent = np.frombuffer(self._memory, np.uint8, nbytes, offset)
        weakref.finalize(lent, let_go, offset).atexit = False
        return lent.data

    def close(self) -> None:
        """Give no more views. The memory is unmapped with the last view."""
        self._memory = None


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # not a memfd
        return 0
