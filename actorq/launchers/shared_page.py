"""Shared memory page that a node process writes and that can be read after its death."""

from __future__ import annotations

import fcntl
import mmap
import os


def make_page(nbytes: int) -> int:
    """A descriptor of `nbytes` of zeroed memory without a name in the file system (memfd); close it when
    done.

    Its size is sealed, so that it can't shrink under a mapping.
    """
    fd = os.memfd_create("actorq-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, nbytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def map_page(fd: int) -> mmap.mmap:
    """Map the page for writing; every process that has the descriptor sees each write at once."""
    return mmap.mmap(fd, os.fstat(fd).st_size)


def read_page(fd: int) -> bytes:
    """The page's contents."""
    return os.pread(fd, os.fstat(fd).st_size, 0)
