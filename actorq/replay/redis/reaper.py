"""Reaper process: `python -I reaper.py FOLDER LOCK_FD COMMAND…` runs a Redis server that ends with its
starter.

A small process between the two. When its standard input ends, because the starter closed it or was killed, it
shuts the server down in order and removes the folder; when it is killed itself, the kernel kills the server.
It imports next to nothing, to start fast and stay small.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

SHUTDOWN_SECONDS = 10.0
"""Time limit for the server to write its data; then it is killed."""

_PR_SET_PDEATHSIG = 1


class StarterGone(Exception):
    """The thread that started this has ended."""


def main() -> int:
    folder, lock, *command = sys.argv[1:]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, starter_gone)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    reaper = os.getpid()

    def end_with_reaper() -> None:  # after the fork; this process has one thread, so anything may be called
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != reaper:
            os._exit(1)

    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=[] if lock == "-" else [int(lock)],
        preexec_fn=end_with_reaper,
        process_group=0,
    )
    if lock != "-":  # from now on the server holds the lock on its data's folder
        os.ftruncate(int(lock), 0)
        os.pwrite(int(lock), str(server.pid).encode(), 0)
        os.close(int(lock))
    print("pid", server.pid, flush=True)
    ended = os.pidfd_open(server.pid)
    if not ended_first(ended):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        server.terminate()
        if not select.select([ended], [], [], SHUTDOWN_SECONDS)[0]:
            server.kill()
        select.select([ended], [], [])
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(
            server.pid, signal.SIGKILL
        )  # its child that rewrites its file; the group exists until it is reaped
    return server.wait() & 0xFF


def ended_first(ended: int) -> bool:
    """Wait until the server has ended (True), or must end (False)."""
    try:
        return ended in select.select([ended, sys.stdin], [], [])[0]
    except StarterGone:
        return False


def starter_gone(*_: object) -> None:
    raise StarterGone


if __name__ == "__main__":
    sys.exit(main())
