"""Large arrays to other processes of one host: blocks of shared memory with a notice, against raw pynng.

`python -m tests.bench.blocks` prints for several sizes MB/s to one reader, and for a weight vector the CPU
time of its sender and of all readers together. A notice goes over a pipe here; nobody copies on receipt, and
only where it says so anybody reads more than the first and the last byte. Best of several rounds, taken in
turns.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pynng
from numpy.typing import NDArray

from actorq.actors.wire.session.shm_arena import ShmArena, ShmMapping

MIB = 2**20
SIZES_MIB = (1, 4, 16)
BYTES_A_ROUND = 128 * MIB
WEIGHTS_BYTES = 6_800_000
READERS = 8
VERSIONS = 12
ROUNDS = 3
AT_A_TIME = 2  # a double buffer

NOTICE = struct.Struct("<QQ")  # offset, length
RELEASE = struct.Struct("<Q")  # offset
SECONDS = struct.Struct("<d")  # CPU time of a reader, when all is over


def look(array: NDArray[np.uint8], whole: bool) -> None:
    """At the ends of what was received, or at all of it."""
    assert array[0] == array[-1] == 1
    if whole:
        array.view(np.uint64).max()


def read_blocks(whole: bool, pid: int, fd: int) -> None:
    """A reader's process: notices on standard input, releases on standard output."""
    window = ShmMapping(pid, fd)

    def let_go(offset: int) -> None:
        os.write(1, RELEASE.pack(offset))

    os.write(1, RELEASE.pack(0))  # ready
    began = time.process_time()
    while notice := os.read(0, NOTICE.size):
        offset, nbytes = NOTICE.unpack(notice)
        look(np.frombuffer(window.view(offset, nbytes, let_go), np.uint8), whole)
    os.write(1, SECONDS.pack(time.process_time() - began))


def read_pynng(whole: bool, address: str) -> None:
    """A reader's process over nng, until an empty message."""
    with pynng.Pull0(listen=address) as socket:
        os.write(1, RELEASE.pack(0))
        began = time.process_time()
        while body := (message := socket.recv_msg())._buffer:  # is valid as long as the message lives
            look(np.frombuffer(body, np.uint8), whole)
        del message
        os.write(1, SECONDS.pack(time.process_time() - began))


@contextmanager
def reader(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.bench.blocks", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        answer(process)
        yield process


def answer(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(RELEASE.size)


@dataclass(frozen=True)
class Cost:
    wall: float
    """Seconds, from the first message to the end of all readers."""
    cpu: float
    """Seconds, of the sender and of all readers."""


@contextmanager
def timed(costs: list[Cost], readers: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    theirs = sum(SECONDS.unpack(answer(process))[0] for process in readers)
    costs.append(Cost(time.perf_counter() - wall, time.process_time() - cpu + theirs))


def by_blocks(payload: NDArray[np.uint8], messages: int, count: int, whole: bool, costs: list[Cost]) -> None:
    """Each message to `count` readers, who look at the whole of it or hardly."""
    arena = ShmArena(2 * AT_A_TIME * payload.nbytes)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(reader("blocks", int(whole), os.getpid(), arena.fd)) for _ in range(count)
        ]
        under_way: deque[int] = deque()

        def take_back() -> None:
            offset = under_way.popleft()
            for process in readers:
                assert answer(process) == RELEASE.pack(offset)
                arena.freed(process.pid, offset)

        with timed(costs, readers):
            for _ in range(messages):
                if len(under_way) == AT_A_TIME:
                    take_back()
                message = payload[:]  # another array: it is copied, and its readers share the copy
                for process in readers:
                    offset = arena.place(message, process.pid)
                    assert offset is not None
                    assert process.stdin is not None
                    process.stdin.write(NOTICE.pack(offset, payload.nbytes))
                    last = offset
                under_way.append(last)
            while under_way:
                take_back()
            for process in readers:
                process.stdin.close()  # type: ignore[union-attr]
    arena.close()


def by_pynng(payload: NDArray[np.uint8], messages: int, count: int, whole: bool, costs: list[Cost]) -> None:
    data = payload.tobytes()  # what `send` takes
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        addresses = [f"ipc://{Path(folder) / str(number)}" for number in range(count)]
        readers = [stack.enter_context(reader("pynng", int(whole), address)) for address in addresses]
        sockets: list[Any] = [stack.enter_context(pynng.Push0(send_timeout=10_000)) for _ in addresses]
        for socket, address in zip(sockets, addresses, strict=True):
            socket.dial(address, block=True)
        with timed(costs, readers):
            for _ in range(messages):
                for socket in sockets:
                    socket.send(data)
            for socket in sockets:
                socket.send(b"")


def compare(
    nbytes: int, messages: int, count: int, of: Callable[[Cost], float], *, whole: bool = False
) -> tuple[float, float]:
    """The least of either way: blocks, pynng."""
    payload = np.ones(nbytes, np.uint8)
    payload.flags.writeable = False
    blocks, pipes = list[Cost](), list[Cost]()
    for _ in range(ROUNDS):
        by_blocks(payload, messages, count, whole, blocks)
        by_pynng(payload, messages, count, whole, pipes)
    return min(map(of, blocks)), min(map(of, pipes))


def fresh_and_used_pages() -> tuple[float, float]:
    """Seconds to place the weights where nothing was yet, and where something was before; the median."""
    weights = np.ones(WEIGHTS_BYTES, np.uint8)
    weights.flags.writeable = False
    seconds: list[tuple[float, float]] = []
    for _ in range(15):
        arena = ShmArena(WEIGHTS_BYTES)
        times = [time.perf_counter()]
        for _ in range(2):
            arena.place(weights, "reader")
            times.append(time.perf_counter())
            arena.forget("reader")
        seconds.append((times[1] - times[0], times[2] - times[1]))
        arena.close()
    fresh, used = np.median(seconds, axis=0).tolist()
    return fresh, used


def main() -> None:
    fresh, used = fresh_and_used_pages()
    print(
        f"{WEIGHTS_BYTES / 1e6} MB placed: {1e3 * used:.2f} ms, into fresh pages {1e3 * fresh:.2f} ms: "
        f"{fresh / used:.1f} times"
    )
    for size in SIZES_MIB:
        messages = BYTES_A_ROUND // (size * MIB)
        blocks, pipes = (
            size * MIB * messages / seconds / 1e6
            for seconds in compare(size * MIB, messages, 1, lambda cost: cost.wall)
        )
        print(
            f"{size:2} MiB to one reader: {blocks:6,.0f} MB/s, pynng {pipes:5,.0f}: "
            f"{blocks / pipes:.1f} times (reach 2)"
        )
    for whole in (False, True):
        blocks, pipes = compare(WEIGHTS_BYTES, VERSIONS, READERS, lambda cost: cost.cpu, whole=whole)
        print(
            f"{WEIGHTS_BYTES / 1e6} MB to {READERS} readers{', who read it' if whole else ''}: CPU "
            f"{1e3 * blocks / VERSIONS:.2f} ms, pynng {1e3 * pipes / VERSIONS:.2f} ms: "
            f"{blocks / pipes:.3f} of the time (reach 0.3)"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["blocks", whole, pid, fd]:
            read_blocks(whole == "1", int(pid), int(fd))
        case ["pynng", whole, address]:
            read_pynng(whole == "1", address)
        case _:
            main()
