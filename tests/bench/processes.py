"""Between two processes over ipc, against raw pynng: tells, asks, arrays, weights to many, a node's start.

`python -m tests.bench.processes` prints the ratios of the table in docs/performance.md. With
RAY_PYTHON=/path/to/python of an environment that has ray, tells against its actors too.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import numpy as np
import pynng

from actorq.actors import ActorSpec, MailboxBounds, Membership, System
from actorq.launchers.launchers import LaunchersByNode
from actorq.launchers.node_setup import RunSetup
from actorq.launchers.process.launcher import ProcessLauncher
from actorq.launchers.socket_folder import private_folder
from actorq_nng import NngTransport

from ._traffic import Add, Block, Busy, Caller, Counter, CpuSeconds, GetTotal, WeightPublisher, Weights

Backend = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
TELLS, ASKS, ROUNDS = 200_000, 3000, 3
RAW_TELLS = 60_000
MIB = 2**20
SIZES = (1, 4, 16)
BLOCK_BYTES = 512 * MIB
WEIGHTS, RECEIVERS, PUBLISHED = 1_700_000, 8, 60


@asynccontextmanager
async def processes(backend: Backend, specs: list[ActorSpec], *, ipc: bool = True) -> AsyncIterator[System]:
    """The specs' nodes but main as processes."""
    elsewhere = list(dict.fromkeys(spec.node for spec in specs if spec.node != "main"))
    with private_folder() as folder:
        membership = Membership(folder=folder, addresses=() if ipc else ("tcp://127.0.0.1:0",))
        run = RunSetup(
            specs=tuple(specs),
            transport=partial(NngTransport, ipc=ipc),
            membership=membership,
            backend=backend,
            local_nodes=len(elsewhere),
        )
        transport = NngTransport(ipc=ipc)
        async with (
            ProcessLauncher(run, ()) as started,
            System(
                specs,
                transport=transport,
                membership=membership,
                elsewhere=elsewhere,
                launcher=LaunchersByNode(run, dict.fromkeys(elsewhere, started)),
                direct=True,
            ) as system,
        ):
            yield system


def pair() -> list[ActorSpec]:
    roomy = MailboxBounds(messages=4000, bytes=64 * MIB)
    return [
        ActorSpec(name="counter", cls=Counter, node="other", mailbox=roomy),
        ActorSpec(name="caller", cls=Caller, ports={"counter": ("counter",)}),
    ]


async def tells_per_second() -> float:
    counter, message = Caller.me.counter, Add(1)
    before = (await counter.ask(GetTotal())).value
    began = time.perf_counter()
    for _ in range(TELLS):
        await counter.tell(message)
    assert (await counter.ask(GetTotal())).value - before == TELLS
    return TELLS / (time.perf_counter() - began)


async def round_trips(count: int) -> list[float]:
    counter, request, trips = Caller.me.counter, GetTotal(), []
    for _ in range(count):
        began = time.perf_counter()
        await counter.ask(request)
        trips.append(time.perf_counter() - began)
    return trips


async def busy_round_trips() -> list[float]:
    await Caller.me.counter.tell(Busy(2.0))
    end, trips = time.perf_counter() + 1.8, []
    while time.perf_counter() < end:
        trips += await round_trips(1)
    return trips


async def megabytes_per_second(mebibytes: int) -> float:
    """Arrays made before, each another one, received and looked at."""
    counter = Caller.me.counter
    count = max(4, BLOCK_BYTES // (mebibytes * MIB) // 2)
    arrays = [np.ones(mebibytes * MIB, np.uint8) for _ in range(8)]

    async def send(number: int) -> None:
        for at in range(number):
            await counter.tell(Block(arrays[at % 8].view()))
        await counter.ask(GetTotal())

    await send(count)
    began = time.perf_counter()
    await send(count)
    return count * mebibytes * MIB / 1e6 / (time.perf_counter() - began)


async def traffic(backend: Backend, results: dict[str, float]) -> None:
    def best(name: str, value: float, pick: Callable[[float, float], float] = max) -> None:
        key = f"{name} {backend}"
        results[key] = pick(results.get(key, value), value)

    async with processes(backend, pair()):
        for _ in range(ROUNDS):
            best("tells", await tells_per_second())
            best("ask", statistics.median(await round_trips(ASKS)), min)
        idle = await round_trips(ASKS)
        busy = await busy_round_trips()
        results[f"ask busy p99 {backend}"] = float(np.quantile(busy, 0.99))
        results[f"ask idle p50 {backend}"] = statistics.median(idle)
        for size in SIZES:
            for _ in range(ROUNDS):
                best(f"{size} MiB ipc", await megabytes_per_second(size))


async def traffic_by_tcp(backend: Backend, results: dict[str, float]) -> None:
    async with processes(backend, pair(), ipc=False):
        for size in SIZES:
            rates = [await megabytes_per_second(size) for _ in range(ROUNDS)]
            results[f"{size} MiB tcp {backend}"] = max(rates)


async def weights_to_many(backend: Backend, results: dict[str, float]) -> None:
    names = [f"counter.{index}" for index in range(RECEIVERS)]
    specs = [ActorSpec(name=name, cls=Counter, node=f"node.{index}") for index, name in enumerate(names)]
    specs.append(ActorSpec(name="publisher", cls=WeightPublisher, ports={"counters": tuple(names)}))
    async with processes(backend, specs):
        group = WeightPublisher.me.counters

        async def cpu() -> float:
            return (sum(t.value for t in await group.all().ask(CpuSeconds())) + time.process_time_ns()) / 1e9

        vector = np.ones(WEIGHTS, np.float32)
        best = float("inf")
        for _ in range(ROUNDS):
            before = await cpu()
            for _ in range(PUBLISHED):
                await group.all().tell(Weights(vector.copy()))
                await group.all().ask(GetTotal())
            best = min(best, await cpu() - before)
        results[f"weights cpu {backend}"] = best / PUBLISHED


# Raw pynng, blocking.


def raw(address: str) -> dict[str, float]:
    code = f"from tests.bench.processes import raw_node_agent; raw_node_agent({address!r})"
    results: dict[str, float] = {}
    with (
        pynng.Push0(listen=f"{address}1", send_buffer_size=128) as push,
        pynng.Pull0(listen=f"{address}2") as pull,
        subprocess.Popen([sys.executable, "-c", code]) as node_agent,
    ):
        push.send(b"last")
        pull.recv()
        body = bytes(64)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(RAW_TELLS):
                push.send(body)
            push.send(b"last")
            pull.recv()
            rate = RAW_TELLS / (time.perf_counter() - began)
            results["tells"] = max(results.get("tells", 0), rate)
            trips = []
            for _ in range(ASKS):
                began = time.perf_counter()
                push.send(b"last")
                pull.recv()
                trips.append(time.perf_counter() - began)
            results["ask"] = min(results.get("ask", 1), statistics.median(trips))
        for size in SIZES:
            content = bytes(size * MIB)
            count = max(4, BLOCK_BYTES // (size * MIB) // 2)
            for _ in range(ROUNDS):
                began = time.perf_counter()
                for _ in range(count):
                    push.send(content)
                push.send(b"last")
                pull.recv()
                rate = count * size * MIB / 1e6 / (time.perf_counter() - began)
                results[f"{size} MiB"] = max(results.get(f"{size} MiB", 0), rate)
        push.send(b"end")
        node_agent.wait()
    return results


def raw_node_agent(address: str) -> None:
    with (
        pynng.Pull0(dial=f"{address}1", recv_buffer_size=128) as pull,
        pynng.Push0(dial=f"{address}2") as push,
    ):
        while True:
            message = pull.recv_msg()
            body = message._buffer
            if len(body) == 4:
                push.send(b"last")
            elif len(body) == 3:
                return


def raw_weights(folder: str) -> float:
    """CPU seconds of all processes for one vector to eight receivers, each by a pair of its own."""
    addresses = [f"ipc://{folder}/w{index}" for index in range(RECEIVERS)]
    pairs = [pynng.Pair0(listen=address) for address in addresses]
    code = "import sys; from tests.bench.processes import raw_receiver; raw_receiver(sys.argv[1])"
    children = [subprocess.Popen([sys.executable, "-c", code, address]) for address in addresses]

    def cpu() -> float:
        for each in pairs:
            each.send(b"cpu")
        return sum(int(each.recv()) for each in pairs) / 1e9 + time.process_time_ns() / 1e9

    vector = np.ones(WEIGHTS, np.float32)
    best = float("inf")
    cpu()
    for _ in range(ROUNDS):
        before = cpu()
        for _ in range(PUBLISHED):
            body = vector.copy().tobytes()
            for each in pairs:
                each.send(body)
            for each in pairs:
                each.recv()
        best = min(best, cpu() - before)
    for each in pairs:
        each.send(b"end")
    for child in children:
        child.wait()
    for each in pairs:
        each.close()
    return best / PUBLISHED


def raw_receiver(address: str) -> None:
    with pynng.Pair0(dial=address) as both:
        while True:
            message = both.recv_msg()
            body = message._buffer
            if len(body) > 3:
                float(np.frombuffer(body, np.float32, 1)[0])
                both.send(b"ok")
            elif bytes(body) == b"cpu":
                both.send(str(time.process_time_ns()).encode())
            else:
                return


# A node's start.


def reference_start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, msgspec, anyio, pynng"], check=True)
    return time.perf_counter() - began


async def node_start(backend: Backend) -> float:
    """From the engine's call to the end of on_start."""
    specs = pair()
    began = time.perf_counter()
    async with processes(backend, specs):
        return time.perf_counter() - began


# Ray.


def ray_tells() -> float:
    """By the interpreter that RAY_PYTHON names: its dependencies are not this project's."""
    command = [os.environ["RAY_PYTHON"], str(Path(__file__).with_name("_ray_tells.py"))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def report_traffic(results: dict[str, float], bare: dict[str, float]) -> None:
    print(f"raw pynng: {bare['tells']:,.0f} tells/s, ask {bare['ask'] * 1e6:.0f} µs")
    for backend in BACKENDS:
        tells, ask = results[f"tells {backend}"], results[f"ask {backend}"]
        busy, idle = results[f"ask busy p99 {backend}"], results[f"ask idle p50 {backend}"]
        print(f"{backend}: {tells:,.0f} tells/s, {tells / bare['tells']:.2f} times raw pynng's")
        print(f"{backend}: ask {ask * 1e6:.0f} µs, {ask / bare['ask']:.2f} of raw pynng's")
        print(f"{backend}: ask while busy, p99 {busy * 1e3:.1f} ms; idle, median {idle * 1e6:.0f} µs")
        report_arrays(results, bare, backend, "ipc")


def report_arrays(results: dict[str, float], bare: dict[str, float], backend: str, way: str) -> None:
    for size in SIZES:
        rate, raw_rate = results[f"{size} MiB {way} {backend}"], bare[f"{size} MiB"]
        print(
            f"{backend}: {size} MiB by {way} {rate:,.0f} MB/s, {rate / raw_rate:.2f} of raw {raw_rate:,.0f}"
        )


def main(only: list[str]) -> None:
    """All, or those of traffic, tcp, weights and start that are named."""
    results: dict[str, float] = {}
    if not only or "traffic" in only:
        with private_folder() as folder:
            bare = raw(f"ipc://{folder}/raw")
        for backend in BACKENDS:
            anyio.run(traffic, backend, results, backend=backend)
        report_traffic(results, bare)
        if "RAY_PYTHON" in os.environ:
            rate = ray_tells()
            for backend in BACKENDS:
                print(f"{backend}: {results[f'tells {backend}'] / rate:.0f} times Ray's {rate:,.0f} tells/s")
    if not only or "tcp" in only:
        bare = raw("tcp://127.0.0.1:2718")
        for backend in BACKENDS:
            anyio.run(traffic_by_tcp, backend, results, backend=backend)
            report_arrays(results, bare, backend, "tcp")
    if not only or "weights" in only:
        with private_folder() as folder:
            raw_cpu = raw_weights(folder)
        for backend in BACKENDS:
            anyio.run(weights_to_many, backend, results, backend=backend)
            cpu = results[f"weights cpu {backend}"]
            print(f"{backend}: 6.8 MB to {RECEIVERS}: {cpu * 1e3:.1f} ms CPU, {cpu / raw_cpu:.2f} of raw")
    if not only or "start" in only:
        reference = min(reference_start() for _ in range(5))
        for backend in BACKENDS:
            start = min(anyio.run(node_start, backend, backend=backend) for _ in range(5))
            print(f"{backend}: a node's start {start * 1e3:.0f} ms, {start / reference:.2f} of bare imports")


if __name__ == "__main__":
    main(sys.argv[1:])
