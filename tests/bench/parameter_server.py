"""The parameter server: gradients a second against a bare optimizer, a synchronous step against all-reduce.

`python -m tests.bench.parameter_server [push | step | workers]` prints the ratios of the table in
docs/performance.md. Everything computes on one thread a process; the server is this process, and each worker
one of its own, over ipc.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import torch

from actorq.actors import ActorSpec, MailboxBounds, System
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.optimizers import make_optimizer
from actorq.roles.parameter_server.coordinator import ParameterCoordinator
from actorq.roles.parameter_server.messages import Pull
from actorq.roles.parameter_server.shard import ParameterServer

from ._pushing import Pusher
from .processes import processes

AGENT = Agent(hidden=(1300, 1300))
TASK = Task(env="CartPole-v1")
SIZE = 4 * 1300 + 1300 + 1300 * 1300 + 1300 + 2 * 1300 + 2
WORKERS, ROUNDS, SECONDS = 4, 3, 5.0
MIB = 2**20


def bare_steps_per_second() -> float:
    """Adam on one flat tensor of this size, one step after the other."""
    vector, gradient = torch.zeros(SIZE), torch.full((SIZE,), 1e-3)
    optimizer = make_optimizer(AGENT, vector, gradient)
    for _ in range(50):
        optimizer.step()
    began, steps = time.perf_counter(), 500
    for _ in range(steps):
        optimizer.step()
    return steps / (time.perf_counter() - began)


def topology(rule: str, reads: bool) -> list[ActorSpec]:
    tables = {"agent": AGENT, "task": TASK}
    names = tuple(f"worker.{index}" for index in range(WORKERS))
    roomy = MailboxBounds(messages=1000, bytes=256 * MIB)
    server: dict[str, Any] = {"tables": tables, "mailbox": roomy}
    pusher = Pusher.Config(size=SIZE, reads=reads)
    ports = {"servers": ("server",), "coordinator": ("coordinator",)}
    return [
        ActorSpec(name="server", cls=ParameterServer, config=ParameterServer.Config(), **server),
        ActorSpec(
            name="coordinator",
            cls=ParameterCoordinator,
            config=ParameterCoordinator.Config(rule=rule),  # type: ignore[arg-type]
            ports={"servers": ("server",)},
            **server,
        ),
        *(
            ActorSpec(
                name=name, cls=Pusher, config=pusher, node=name, index=index, count=WORKERS, ports=ports,
                mailbox=roomy,
            )
            for index, name in enumerate(names)
        ),
    ]  # fmt: skip


async def updates_per_second(rule: str, *, reads: bool) -> float:
    async with processes("asyncio", topology(rule, reads)) as system:
        await _updates_after(system, 30)
        before, began = await _updates(system), time.perf_counter()
        await anyio.sleep(SECONDS)
        return (await _updates(system) - before) / (time.perf_counter() - began)


async def _updates(system: System) -> int:
    pulled = await system.ref("coordinator").ask(Pull(0, True))
    return int(pulled.version.updates)


async def _updates_after(system: System, updates: int) -> None:
    """Return when so many have been made. Each question is a version kept, so it asks now and then."""
    for _ in range(20 * updates):
        if await _updates(system) >= updates:
            return
        await anyio.sleep(0.05)
    raise TimeoutError(f"not {updates} updates after {updates} seconds")


def pushing() -> None:
    torch.set_num_threads(1)
    for reads in (False, True):
        ratios = []
        for _ in range(ROUNDS):
            bare = bare_steps_per_second()
            ours = anyio.run(_asynchronous, reads)
            ratios.append(ours / bare)
            print(f"  {ours:.0f} updates/s, bare Adam {bare:.0f}")
        doing = "push and read all parameters" if reads else "push"
        report(f"{WORKERS} workers {doing}: gradients applied against bare steps", ratios, "0.6")


async def _asynchronous(reads: bool) -> float:
    return await updates_per_second("asynchronous", reads=reads)


async def _synchronous() -> float:
    return await updates_per_second("synchronous", reads=True)


def stepping() -> None:
    torch.set_num_threads(1)
    ratios = []
    for _ in range(ROUNDS):
        reduced, ours = all_reduce_seconds(), 1.0 / anyio.run(_synchronous)
        ratios.append(ours / reduced)
        print(f"  a synchronous step {1e3 * ours:.1f} ms, gloo's all-reduce and Adam {1e3 * reduced:.1f} ms")
    report(f"a synchronous step of {WORKERS} workers against all-reduce", ratios, "<= 1.3")


def all_reduce_seconds() -> float:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(WORKERS), str(SIZE), "100", str(Path(folder) / "rendezvous")]
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench._gloo", str(rank), *arguments],
                stdout=subprocess.PIPE, text=True,
            )
            for rank in range(WORKERS)
        ]  # fmt: skip
        told = [run.communicate()[0] for run in runs]
    return float(told[0])


def with_workers(count: int, updates: int = 400) -> float:
    """updates/s of a whole run: Breakout's frames, Nature's network, batches of 32."""
    from actorq.run.open_run import run
    from actorq.run.records.metrics import read_rows

    worker = {
        "envs": 4,
        "chunk_steps": 8,
        "torch_threads": 1,
        "replay": {"sampling": "uniform", "capacity": 5000, "min_size": 200, "samples_per_insert": 8.0},
    }
    plan: dict[str, Any] = {
        "name": "workers",
        "task": {"env": "ALE/Breakout-v5", "frame_stack": 4, "reward_clip": 1.0},
        "agent": {"network": "nature_cnn", "batch_size": 32},
        "stop": {"updates": updates},
        "nodes": {"main": {}, "workers": {"count": count, "place": "process", "transport": "nng"}},
        "actors": {
            "server": {"role": "parameter_server"},
            "coordinator": {
                "role": "parameter_coordinator", "ports": {"servers": "server"},
            },
            "worker": {
                "role": "worker", "count": count, "node": "workers",
                "ports": {"servers": "server", "coordinator": "coordinator"}, "config": worker,
            },
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(plan, out=out)
        rows = [row for row in read_rows(out / "metrics.jsonl") if row.get("updates")]
    first, last = rows[0], rows[-1]
    return (last["updates"] - first["updates"]) / (last["wall_seconds"] - first["wall_seconds"])


def report(name: str, ratios: list[float], reach: str) -> None:
    print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), to reach {reach}")


def workers() -> None:
    ratios = []
    for _ in range(ROUNDS):
        one, two = with_workers(1), with_workers(2)
        ratios.append(two / one)
        print(f"  1 worker {one:.1f} updates/s, 2 workers {two:.1f}")
    report("2 workers against 1", ratios, ">= 1.7")


def main(names: list[str]) -> None:
    parts = {"push": pushing, "step": stepping, "workers": workers}
    for name in names or parts:
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
