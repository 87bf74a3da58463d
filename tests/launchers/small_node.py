"""A node process for tests, like `actorq.launchers.process.child`, that does what the test commands."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import msgspec

from actorq.actors.wire.state_codec import StateValue
from actorq.launchers.control_stream import ControlStream
from actorq.launchers.log_forwarding import Logged
from actorq.launchers.node_setup import Failed, NodeSetup
from actorq.launchers.process import child
from actorq.launchers.shared_page import map_page


class Do(msgspec.Struct, tag=True):
    """One of the functions below, by name."""

    what: str
    value: StateValue | None = None


class Done(msgspec.Struct, tag=True):
    value: StateValue | None = None


NodeEvent = Logged | Failed | Done

log = logging.getLogger("little.node")


def echo(setup: NodeSetup, value: Any) -> Any:
    return value


def describe(setup: NodeSetup, value: Any) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "node": setup.node,
        "configs": [repr(spec.config) for spec in setup.specs],
        "python_path": os.environ.get("PYTHONPATH"),
        "sys_path": sys.path,
        "threads": os.environ["OMP_NUM_THREADS"],
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "modules": sorted(sys.modules),
        "fds": len(list(Path("/proc/self/fd").iterdir())),
        "interrupt_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }


def leave(setup: NodeSetup, status: int) -> None:
    os._exit(status)


def fail(setup: NodeSetup, value: Any) -> None:
    raise ValueError("this node is told to fail")


def loop_in_python(setup: NodeSetup, value: Any) -> None:
    while True:
        pass


def loop_in_c(setup: NodeSetup, value: Any) -> None:
    """Without ever running a line of Python: it would not see a signal's handler, nor let one be called."""
    ctypes.PyDLL(None).sleep(10_000)


def have_orphan(setup: NodeSetup, value: Any) -> int:
    """A process in a session of its own that holds whatever may be inherited, the control socket too."""
    return subprocess.Popen(["sleep", "1000"], close_fds=False, start_new_session=True).pid


def have_child(setup: NodeSetup, value: Any) -> int:
    """A process of this one's own, which holds its standard output and error open."""
    return subprocess.Popen(["sleep", "10000"]).pid


def print_line(setup: NodeSetup, line: str) -> None:
    print(line)
    os.kill(os.getpid(), signal.SIGKILL)


def say(setup: NodeSetup, lines: dict[str, str]) -> None:
    os.write(1, lines.get("out", "").encode())
    os.write(2, lines.get("err", "").encode())


def log_from_everywhere(setup: NodeSetup, value: Any) -> None:
    thread = threading.Thread(target=log.info, args=("from a %s", "thread"))
    thread.start()
    thread.join()
    log.debug("not wanted")
    warnings.warn("take care", stacklevel=1)
    try:
        raise KeyError("gone")
    except KeyError:
        log.exception("no such thing \udc80")


def write_page(setup: NodeSetup, content: bytes) -> None:
    assert setup.delivery_log_fd is not None
    map_page(setup.delivery_log_fd)[: len(content)] = content
    os.kill(os.getpid(), signal.SIGKILL)


def end(setup: NodeSetup, value: Any) -> None:
    raise EOFError


async def live(setup: NodeSetup, stream: ControlStream) -> None:
    async for order in stream:
        try:
            value = globals()[order.what](setup, order.value and order.value.value)
        except EOFError:
            return
        await stream.send(Done(StateValue(value)))


def main() -> None:
    control_fd, parent = map(int, sys.argv[1:])
    child.die_with_parent(parent)
    child.ignore_interrupts()
    control = socket.socket(fileno=control_fd)
    setup = child.receive_setup(control)
    sys.exit(child.run(live, Do, setup, control))


if __name__ == "__main__":  # which is about to be another module
    from . import small_node as little_node

    little_node.main()
