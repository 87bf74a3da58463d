"""The recipe with nodes solves CartPole over nng, also while its groups are killed."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.run.open_run import Run, open_run, run
from actorq.run.records.summary import Summary

SEEDS = range(5)
BACKENDS: list[Any] = ["asyncio", "trio"]
KILLED_EVERY_SECONDS = 10.0


def group_nodes() -> list[int]:
    """The processes of this process's nodes, of which one may be about to start again."""
    children = [task.read_text().split() for task in Path("/proc/self/task").glob("*/children")]
    return [
        int(pid) for found in children for pid in found if b"actorq.launchers.process.child" in command(pid)
    ]


def command(pid: str) -> bytes:
    """Nothing, if the process has ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_learns_across_processes(backend: Any, tmp_path: Path) -> None:
    summary = run(
        "hierarchical",
        transport="nng",
        overrides=["stop.updates=300", "stop.solved={return=501.0, episodes=1}"],
        backend=backend,
        out=tmp_path / "run",
    )
    assert summary.stopped_by == "updates"
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert summary.staleness is not None
    members = [f"edge.{group}.explorer.{index}" for group in range(3) for index in range(2)]
    assert all(summary.actors[name].messages_out for name in members)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_cartpole_is_solved_over_nng_with_each_seed(seed: int, backend: Any, tmp_path: Path) -> None:
    summary = run(
        "hierarchical", transport="nng", overrides=[f"seed={seed}"], backend=backend, out=tmp_path / "run"
    )
    solved(summary)
    assert (summary.restarts, summary.dead_letters) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.anyio
@pytest.mark.parametrize("seed", SEEDS)
async def test_cartpole_is_solved_while_groups_are_killed(
    seed: int, anyio_backend: Any, tmp_path: Path
) -> None:
    """One every ten seconds, for as long as it takes: the others go on, and it catches up at the root."""
    async with (
        open_run(
            "hierarchical",
            transport="nng",
            overrides=[f"seed={seed}"],
            backend=anyio_backend,
            out=tmp_path / "run",
        ) as going,
        anyio.create_task_group() as beside,
    ):
        beside.start_soon(keep_killing, going, random.Random(seed))
        summary = await going.wait()
        beside.cancel_scope.cancel()
    solved(summary)
    assert summary.restarts > 0
    assert summary.actors["root"].restarts == 0
    assert group_nodes() == []


async def keep_killing(going: Run, generator: random.Random) -> None:
    """The first at once. None while the run stops: that would be a failure, its last state is lost."""
    while going.progress_now().stopped_by is None:
        with suppress(ProcessLookupError):  # it has just ended, and starts again
            os.kill(generator.choice(group_nodes()), signal.SIGKILL)
        await anyio.sleep(KILLED_EVERY_SECONDS)


def solved(summary: Summary) -> None:
    steps, seconds = f"{summary.env_steps} env steps, {summary.updates} updates", summary.wall_seconds
    print(f"seed {summary.seed}: {steps}, {seconds:.1f} s, {summary.restarts} restarts")
    assert (summary.stopped_by, summary.solved) == ("solved", True)
    assert summary.evaluation_return_mean is not None
    assert summary.evaluation_return_mean >= 475.0
