"""Frames between two processes over ipc: an endpoint's against raw pynng, blocking, one message a call."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import pynng

from actorq.actors.wire.session.endpoint import Endpoint
from actorq.actors.wire.transport import Peer
from actorq_nng.wire import NngWire

SMALL, LARGE = 64, 1 << 20
ROUNDS, SMALL_FRAMES, LARGE_FRAMES = 1000, 10_000, 150
TURNS = 7
LAST = b"last"
SECRET = bytes(32)
BACKENDS = ("asyncio", "trio")


class Measured:
    """One way of sending, in the units of the table."""

    def __init__(self) -> None:
        self.round_trips: list[float] = []
        self.frames_per_second = self.megabytes_per_second = 0.0


# Raw pynng: a pair of one-way links, every message answered only if it is small and says so.


def raw(folder: Path) -> Measured:
    with (
        pynng.Pull0(listen=f"ipc://{folder}/raw.first") as pull,
        pynng.Push0(dial=f"ipc://{folder}/raw.second", block_on_dial=False) as push,
        echo_process("raw", folder),
    ):
        measured = Measured()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            push.send(LAST)
            pull.recv()
            measured.round_trips.append(time.perf_counter() - start)
        for size, frames in ((SMALL, SMALL_FRAMES), (LARGE, LARGE_FRAMES)):
            body = bytes(size)
            start = time.perf_counter()
            for _ in range(frames):
                push.send(body)
            push.send(LAST)
            pull.recv()
            account(measured, size, frames, time.perf_counter() - start)
        push.send(b"end")
    return measured


def raw_echo(folder: Path) -> None:
    with (
        pynng.Pull0(listen=f"ipc://{folder}/raw.second") as pull,
        pynng.Push0(dial=f"ipc://{folder}/raw.first", block_on_dial=False) as push,
    ):
        while (body := pull.recv()) != b"end":
            if len(body) == len(LAST):
                push.send(LAST)


# Endpoints.


class Contents:
    """Each of those that wait in a frame of its own; received ones go to `received`."""

    def __init__(self, received: Callable[[memoryview], None]) -> None:
        self.envelopes, self.answers = deque[bytes](), deque[bytes]()
        self.envelopes_received = self.answers_received = received

    def next_envelopes(self) -> tuple[bytes] | None:
        return (self.envelopes.popleft(),) if self.envelopes else None

    def next_answers(self) -> tuple[bytes] | None:
        return (self.answers.popleft(),) if self.answers else None


def peers(folder: Path) -> dict[str, Peer]:
    return {
        name: Peer(name, number, (f"ipc://{folder}/{name}",), "here", 0)
        for number, name in enumerate(("first", "second"), 1)
    }


async def endpoints(folder: Path) -> Measured:
    measured = Measured()
    answered = anyio.Event()

    def received(body: memoryview) -> None:
        answered.set()

    both = peers(folder)
    endpoint = Endpoint(
        me="first",
        incarnation=1,
        run="bench",
        secret=SECRET,
        max_frame_bytes=2 * LARGE,
        make_wire=partial(NngWire, tls=None),
    )
    endpoint.listen(both["first"].addresses[0])
    contents = Contents(received)
    waiting = contents.envelopes
    envelopes, _ = endpoint.peer_up(both["second"], b"", contents)
    async with anyio.create_task_group() as group:
        group.start_soon(endpoint.serve)
        for turn in range(ROUNDS + 100):
            answered = anyio.Event()
            start = time.perf_counter()
            waiting.append(LAST)
            envelopes.flush()
            await answered.wait()
            if turn >= 100:
                measured.round_trips.append(time.perf_counter() - start)
        for size, frames in ((SMALL, SMALL_FRAMES), (LARGE, LARGE_FRAMES)):
            answered = anyio.Event()
            start = time.perf_counter()
            waiting.extend([bytes(size)] * frames)
            waiting.append(LAST)
            envelopes.flush()
            await answered.wait()
            account(measured, size, frames, time.perf_counter() - start)
        waiting.append(b"end")
        envelopes.wake()
        await endpoint.close()
    return measured


async def endpoint_echo_process(folder: Path) -> None:
    ended = anyio.Event()

    def received(body: memoryview) -> None:
        if len(body) == len(LAST):
            contents.answers.append(LAST)
            answers.flush()
        elif bytes(body) == b"end":
            ended.set()

    contents = Contents(received)
    both = peers(folder)
    endpoint = Endpoint(
        me="second",
        incarnation=2,
        run="bench",
        secret=SECRET,
        max_frame_bytes=2 * LARGE,
        make_wire=partial(NngWire, tls=None),
    )
    endpoint.listen(both["second"].addresses[0])
    _, answers = endpoint.peer_up(both["first"], b"", contents)
    async with anyio.create_task_group() as group:
        group.start_soon(endpoint.serve)
        await ended.wait()
        with anyio.move_on_after(1):  # the last acknowledgement may be lost with the coordinator's socket
            await endpoint.close()


@contextmanager
def echo_process(*arguments: object) -> Iterator[None]:
    """The other process; waited for at the end."""
    with subprocess.Popen([sys.executable, "-m", "tests.bench.nng_frames", *map(str, arguments)]) as process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def account(measured: Measured, size: int, frames: int, seconds: float) -> None:
    if size == SMALL:
        measured.frames_per_second = frames / seconds
    else:
        measured.megabytes_per_second = size * frames / seconds / 1e6


def median(turns: list[Measured], reading: Callable[[Measured], float]) -> float:
    return statistics.median(map(reading, turns))


def tell(name: str, turns: list[Measured], against: list[Measured]) -> None:
    texts = []
    for text, reading in (
        ("round trip {:.0f} µs ({:.2f} of raw)", lambda turn: statistics.median(turn.round_trips) * 1e6),
        (f"{{:,.0f}} frames/s of {SMALL} B ({{:.2f}})", lambda turn: turn.frames_per_second),
        ("{:,.0f} MB/s of 1 MiB ({:.2f})", lambda turn: turn.megabytes_per_second),
    ):
        value = median(turns, reading)
        texts.append(text.format(value, value / median(against, reading)))
    print(f"{name}: {', '.join(texts)}")


def main() -> None:
    names = ("raw pynng, blocking", *BACKENDS)
    turns: dict[str, list[Measured]] = {name: [] for name in names}
    for _ in range(TURNS):  # in turns, as the machine's own mood swings a round trip threefold
        with tempfile.TemporaryDirectory() as folder:
            turns[names[0]].append(raw(Path(folder)))
            for backend in BACKENDS:
                with echo_process(backend, folder):
                    turns[backend].append(anyio.run(endpoints, Path(folder), backend=backend))
    for name in names:
        tell(name, turns[name], turns[names[0]])


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["raw", folder]:
            raw_echo(Path(folder))
        case [backend, folder]:
            anyio.run(endpoint_echo_process, Path(folder), backend=backend)
