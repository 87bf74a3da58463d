"""Whole runs with actors in processes of their own: they report, fail and resume as those of one process."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied, Refused
from actorq.run.open_run import Run, RunFailed, open_run, run
from actorq.run.records import checkpoint
from actorq.run.records.distributions import read_distributions
from actorq.run.records.metrics import read_rows
from actorq.run.records.summary import read_summary
from actorq.run.report.page import write_report

from .toy import (
    Add,
    Counter,
    Crash,
    CrashOver,
    Forever,
    GetTotal,
    GoOn,
    Refuse,
    Total,
    Worker,
    topology,
)

NODES = {"far": {"place": "process", "transport": "nng"}}
ROUND = {"metrics_every_seconds": 0.05}


def over(**tables: Any) -> dict[str, Any]:
    """A counter on a node of its own, which fails the run when it crashes, and other actors as given."""
    actors = {"counter": {"role": Counter, "node": "far"}, **tables.pop("actors", {})}
    return topology(nodes=NODES, actors=actors, run=ROUND, **tables)


def worker(rounds: int = 0, **declared: Any) -> dict[str, Any]:
    return {"role": Worker, "node": "far", "config": {"rounds": rounds}, **declared}


async def until(run: Run, name: str, count: int) -> None:
    async for progress in run.progress(every_seconds=0.01):
        if progress.counts.get(name, 0) >= count:
            return
    raise AssertionError(f"the run ended before it counted {count} {name}")


@pytest.mark.anyio
async def test_a_far_actor_answers_and_is_summed_up(tmp_path: Path, anyio_backend: Any) -> None:
    async with open_run(over(), backend=anyio_backend, out=tmp_path) as run:
        for amount in range(10):
            await run["counter"].tell(Add(amount))
        assert await run["counter"].ask(GetTotal()) == Total(45)
        with pytest.raises(Refused, match="not today"):
            await run["counter"].ask(Refuse())
    summary = read_summary(tmp_path / "summary.json")
    assert summary == run.summary
    assert (summary.stopped_by, summary.env_steps) == ("request", 45)
    assert (summary.restarts, summary.dead_letters) == (0, 0)
    assert summary.actors["counter"].messages_in == 12
    amounts = read_distributions(run.folder.histograms)["amount"]
    assert (amounts.count, amounts.total, amounts.largest) == (10, 45.0, 9.0), "however short its node lived"
    write_report(run.folder)
    assert "distribution" in run.folder.report.read_text()


async def provoke(message: Any, backend: Any, out: Path) -> None:
    async with open_run(over(), backend=backend, out=out) as run:
        if isinstance(message, Crash):
            await run["counter"].tell(message)
        else:
            with pytest.raises(ActorDied):
                await run["counter"].ask(message)
        await run.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("message", [Crash(), CrashOver()])
async def test_a_far_crash_fails_the_run_with_its_own_words(
    message: Any, tmp_path: Path, anyio_backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RunFailed, match=r"actor 'counter' crashed in .*: ValueError: ") as failed:
        await provoke(message, anyio_backend, tmp_path)
    cause = failed.value.__cause__
    assert cause is not None
    words = "told to crash" if isinstance(message, Crash) else "asked to crash"
    assert str(cause) == f"ValueError: {words}"
    assert f'raise ValueError("{words}")' in str(cause.__cause__), "the traceback, as text"
    assert read_summary(tmp_path / "summary.json").stopped_by == "failure"
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f"over {type(message).__name__}: ValueError: {words}" in told


@pytest.mark.anyio
async def test_remote_reports_end_the_run_and_are_in_its_rows(tmp_path: Path, anyio_backend: Any) -> None:
    actors = {"worker": worker(count=2)}
    async with open_run(
        over(actors=actors, stop={"updates": 200}), backend=anyio_backend, out=tmp_path
    ) as run:
        summary = await run.wait()
    assert summary.stopped_by == "updates"
    assert summary.updates >= 200
    assert summary.env_steps == pytest.approx(3 * summary.updates, abs=6), "one may be on its way"
    assert summary.staleness is not None
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert {"env_steps", "updates_per_second", "episode_return/worker.0", "staleness/worker.1"} <= {
        key for row in rows for key in row
    }


@pytest.mark.anyio
async def test_a_checkpoint_has_remote_states_and_a_resumed_run_continues(
    tmp_path: Path, anyio_backend: Any
) -> None:
    actors = {"worker": worker(rounds=20)}
    async with open_run(over(actors=actors), backend=anyio_backend, out=tmp_path) as run:
        await run["counter"].tell(Add(7))
        assert await run["counter"].ask(GetTotal()) == Total(7)
        await until(run, "updates", 20)
        states, _ = checkpoint.load(await run.checkpoint())
        assert states == {"counter": {"total": 7}, "worker": {"rounds": 20}}
    last = checkpoint.latest(tmp_path / "checkpoints")
    assert last is not None
    assert checkpoint.load(last)[0] == states
    async with open_run(resume=tmp_path, overrides=["stop.updates=30"], backend=anyio_backend) as resumed:
        assert await resumed["counter"].ask(GetTotal()) == Total(7)
        await resumed["worker"].tell(GoOn(30))
        summary = await resumed.wait()
    assert (summary.updates, summary.stopped_by) == (30, "updates")


@pytest.mark.anyio
async def test_resumed_in_one_process(tmp_path: Path, anyio_backend: Any) -> None:
    """Where actors run is no part of what they know."""
    async with open_run(over(), backend=anyio_backend, out=tmp_path) as run:
        await run["counter"].tell(Add(7))
        await run["counter"].ask(GetTotal())
    async with open_run(resume=tmp_path, transport="inproc", backend=anyio_backend) as resumed:
        assert await resumed["counter"].ask(GetTotal()) == Total(7)


@pytest.mark.anyio
async def test_a_node_that_dies_is_reported_and_restarted(
    tmp_path: Path, anyio_backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_run(over(actors={"worker": worker()}), backend=anyio_backend, out=tmp_path) as run:
        await until(run, "updates", 5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_once_asked, run, process_of("far", caplog))
            with pytest.raises(ActorDied, match="node far killed by SIGKILL"):
                await run["counter"].ask(Forever())
        assert await run["counter"].ask(GetTotal()) == Total(0), "it is back"
    summary = read_summary(tmp_path / "summary.json")
    assert summary.stopped_by == "request"
    assert {name: actor.restarts for name, actor in summary.actors.items()} == {"counter": 1, "worker": 1}
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("node far")]
    assert [line.rpartition(" ")[0] for line in told] == [
        "node far is process",
        "node far killed by",
        "node far is back, as process",
    ]


def process_of(node: str, caplog: pytest.LogCaptureFixture) -> int:
    lines = [record.getMessage() for record in caplog.records]
    return next(int(line.split()[-1]) for line in lines if line.startswith(f"node {node} is process"))


async def kill_once_asked(run: Run, pid: int) -> None:
    """Not before the question is in progress: the next life would get it."""
    await until(run, "asked", 1)
    os.kill(pid, signal.SIGKILL)


def test_more_nodes_than_declared(tmp_path: Path) -> None:
    plan = over(actors={"worker": worker(count=3)})
    plan["nodes"] = {"far": {**NODES["far"], "count": 2}}
    summary = run(plan, overrides=["nodes.far.count=3", "stop.updates=30"], out=tmp_path)
    assert summary.stopped_by == "updates"
    assert all(actor.messages_in == 0 for actor in summary.actors.values())
    assert json.loads((tmp_path / "summary.json").read_text())["actors"].keys() >= {"worker.0", "worker.2"}


@pytest.mark.parametrize("node", ["main", "far"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_a_script_s_own_actors_in_nodes(piped: bool, node: str, tmp_path: Path) -> None:
    """Those of its `__main__`, named by class and by "__main__:Sender"; also where there is no file."""
    script = Path(__file__).parent / "script_main.py"
    with script.open() as text:
        ended = subprocess.run(
            [sys.executable, "-" if piped else script, tmp_path / "here", node],
            stdin=text if piped else subprocess.DEVNULL,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stdout) == (0, "updates 0\n"), ended.stderr
    assert [row["sum"] for row in read_rows(tmp_path / "here" / "metrics.jsonl") if "sum" in row] == [27.5]
