"""Checkpoints of whole runs, and resuming from them."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied
from actorq.run.open_run import RunFailed, RunOptions, open_run, prepare
from actorq.run.records import checkpoint
from actorq.run.records.checkpoint import CheckpointError
from actorq.run.records.folder import RunFolderError
from actorq.run.records.metrics import read_rows
from actorq.run.records.summary import read_summary

from .toy import (
    Add,
    Counter,
    Crash,
    Gated,
    GetTotal,
    GoOn,
    Total,
    WaitAt,
    Worker,
    gates,
    opened,
    role,
    topology,
)

ROUND = {"metrics_every_seconds": 0.005, "checkpoint_every_seconds": 60.0}


async def leave(folder: Path, backend: Any, amount: int = 3, **tables: Any) -> Path:
    """A run that has counted so much; returns its folder."""
    async with open_run(topology(**tables), backend=backend, out=folder) as run:
        await run["counter"].tell(Add(amount))
        await run["counter"].ask(GetTotal())
    return folder


@pytest.mark.anyio
async def test_a_resumed_run_continues(tmp_path: Path, inside: Any) -> None:
    first = {"worker": role(Worker, rounds=20)}
    async with open_run(topology(actors=first, run=ROUND), backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(3))
        async for progress in run.progress(every_seconds=0.005):
            if progress.counts.get("updates") == 20 and (tmp_path / "metrics.jsonl").stat().st_size:
                break
    before, kept = run.summary, checkpoint.latest(tmp_path / "checkpoints")
    assert before is not None
    more = ["actors.worker.config.rest_seconds=0.002", "stop.updates=30"]
    async with open_run(resume=tmp_path, overrides=more, backend=inside) as resumed:
        assert await resumed["counter"].ask(GetTotal()) == Total(3)
        await resumed["worker"].tell(GoOn(30))
        after = await resumed.wait()
    assert (after.stopped_by, after.updates, after.env_steps) == ("updates", 30, 3 + 30 * 3)
    assert after.episodes == 6
    assert after.wall_seconds > before.wall_seconds
    rows = read_rows(tmp_path / "metrics.jsonl")
    updates = [row.get("updates", 0) for row in rows]
    assert updates == sorted(updates)
    assert 20 in updates
    assert updates[-1] == 30
    seconds = [row["wall_seconds"] for row in rows]
    assert len(set(seconds)) == len(seconds), "no row twice"
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest != kept
    assert newest is not None
    states, _ = checkpoint.load(newest)
    assert states == {"counter": {"total": 3}, "worker": {"rounds": 30}}
    assert "rest_seconds = 0.002" in (tmp_path / "topology.toml").read_text(), "as it runs now"


@pytest.mark.anyio
async def test_a_run_continues_with_another_topology(tmp_path: Path, inside: Any) -> None:
    """What the old one had solved is not solved for the new one."""
    solved = {"worker": role(Worker, rounds=8, solved_at=8)}
    stop = {"solved": {"return": 475.0}}
    async with open_run(topology(actors=solved, stop=stop), backend=inside, out=tmp_path) as run:
        assert (await run.wait()).solved
    wider = {"worker": role(Worker, rounds=8), "another": role(Counter)}
    source = topology(actors=wider, stop={"updates": 12})
    async with open_run(source, resume=tmp_path, backend=inside) as resumed:
        await resumed["another"].tell(Add(5))
        assert await resumed["another"].ask(GetTotal()) == Total(5)
        await resumed["worker"].tell(GoOn(12))
        after = await resumed.wait()
    assert (after.stopped_by, after.updates, after.solved) == ("updates", 12, False)
    assert "another" in (tmp_path / "topology.toml").read_text()


@pytest.mark.anyio
async def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path, inside: Any) -> None:
    """As if the power had failed some time after a checkpoint."""
    async with open_run(topology(run=ROUND), backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(3))
        path = await run.checkpoint()
        await run["counter"].tell(Add(4))
        async for _ in run.progress(every_seconds=0.005):
            if run.newest_row().get("env_steps") == 7:
                break
        run.stop(checkpoint=False)
    assert read_rows(tmp_path / "metrics.jsonl")[-1]["env_steps"] == 7
    assert checkpoint.latest(tmp_path / "checkpoints") == path
    async with open_run(resume=tmp_path, backend=inside) as resumed:
        assert await resumed["counter"].ask(GetTotal()) == Total(3)
        assert resumed.progress_now().counts == {"env_steps": 3}
    assert max(row.get("env_steps", 0) for row in read_rows(tmp_path / "metrics.jsonl")) == 3


@pytest.mark.anyio
async def test_a_checkpoint_holds_the_counts_of_its_states(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path) as run:
        for total in range(1, 4):
            await run["counter"].tell(Add(1))
            states, meta = checkpoint.load(await run.checkpoint())
            assert states == {"counter": {"total": total}}
            assert meta["recorder"]["counts"] == [["counter", "env_steps", total]]


@pytest.mark.anyio
async def test_checkpoints_are_written_by_the_clock(tmp_path: Path, inside: Any) -> None:
    every = {"checkpoint_every_seconds": 0.01}
    async with open_run(topology(run=every), backend=inside, out=tmp_path) as run:
        async for _ in run.progress(every_seconds=0.005):
            if checkpoint.latest(tmp_path / "checkpoints") is not None:
                break
        run.stop(checkpoint=False)
    assert checkpoint.latest(tmp_path / "checkpoints") is not None


@pytest.mark.anyio
async def test_a_state_that_cannot_be_kept_fails_its_checkpoint_alone(
    tmp_path: Path, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Counter):
        def state(self) -> dict[str, Any]:
            return {"odd": object() if self.total == 1 else self.total}

    every = {"checkpoint_every_seconds": 0.01}
    async with open_run(
        topology(actors={"counter": role(Odd)}, run=every), backend=inside, out=tmp_path
    ) as run:
        await run["counter"].tell(Add(1))
        with pytest.raises(CheckpointError, match="states/counter/odd is a object"):
            await run.checkpoint()
        async for _ in run.progress(every_seconds=0.005):
            if "no checkpoint could be written, the run continues" in caplog.text:
                break
        await run["counter"].tell(Add(1))
    assert checkpoint.latest(tmp_path / "checkpoints") is not None


@pytest.mark.anyio
async def test_a_failure_leaves_the_checkpoint_from_before_it(tmp_path: Path, inside: Any) -> None:
    """Of the actor that failed there is no state: others that went on without it would not fit."""

    async def fail(amount: int, **options: Any) -> None:
        async with open_run(backend=inside, **options) as run:
            await run["other"].tell(Add(amount))
            if "out" in options:
                await run.checkpoint()
            await run["counter"].tell(Add(amount))
            await run["counter"].tell(Crash())
            await run.wait()

    actors = {"other": {"role": Counter}}
    with pytest.raises(RunFailed):
        await fail(2, source=topology(actors=actors), out=tmp_path)
    with pytest.raises(RunFailed):
        await fail(5, resume=tmp_path)
    async with open_run(resume=tmp_path, backend=inside) as run:
        assert await run["other"].ask(GetTotal()) == Total(2)
        assert await run["counter"].ask(GetTotal()) == Total(0)


@pytest.mark.anyio
async def test_a_crash_while_the_run_drains_leaves_no_checkpoint(tmp_path: Path, inside: Any) -> None:
    key = f"{tmp_path} gate"
    plan = topology(actors={"other": {"role": Counter}})

    async def train() -> None:
        async with (
            open_run(plan, backend=inside, out=tmp_path) as run,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(run["counter"].ask, WaitAt(key))
            await opened(f"{key} waited at")
            await run["counter"].tell(Crash())
            run.stop()
            for _ in range(3):
                await run["other"].ask(GetTotal())  # the stop has come through
            gates[key].set()

    with pytest.raises(RunFailed, match="crashed in crash over Crash"):
        await train()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.anyio
async def test_a_stop_while_the_run_is_failing_leaves_no_checkpoint(tmp_path: Path, inside: Any) -> None:
    key = str(tmp_path)
    plan = topology(
        actors={"other": {"role": Counter}, "gated": role(Gated, key=key, stops_at=f"{key} gate")}
    )

    async def train() -> None:
        async with open_run(plan, backend=inside, out=tmp_path) as run:
            await run["counter"].tell(Crash())
            await opened(f"{key} stopping")
            run.stop()
            with pytest.raises(ActorDied, match="crashed in crash"):
                await run["counter"].ask(GetTotal())  # the stop has come through
            gates[f"{key} gate"].set()

    with pytest.raises(RunFailed, match="crashed in crash over Crash"):
        await train()
    assert read_summary(tmp_path / "summary.json").stopped_by == "failure"
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.anyio
async def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path) as run:
        await run["counter"].tell(Add(1))
        older = await run.checkpoint()
        await run["counter"].tell(Add(1))
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None
    (newest / "state.json").write_text("{}")
    async with open_run(resume=tmp_path, backend=inside) as resumed:
        assert await resumed["counter"].ask(GetTotal()) == Total(1)
    assert any(
        record.levelno == logging.WARNING and f"{newest}: damaged" in record.message
        for record in caplog.records
    )
    assert older.exists() or checkpoint.latest(tmp_path / "checkpoints") is not None


@pytest.mark.anyio
async def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such folder"):
        async with open_run(resume=tmp_path / "nowhere"):
            pass
    with pytest.raises(RunFolderError, match=r"holds no topology\.toml: not a run's folder"):
        async with open_run(resume=tmp_path):
            pass
    for empty in ({"source": topology(), "out": ""}, {"resume": ""}):
        with pytest.raises(RunFolderError, match="needs a name; this one is empty"):
            async with open_run(**empty):
                pass
    with pytest.raises(ValueError, match="a topology, or a run to resume"):
        async with open_run():
            pass
    with pytest.raises(ValueError, match="a resumed run has its folder already"):
        async with open_run(resume=tmp_path, out=tmp_path):
            pass


@pytest.mark.anyio
async def test_a_run_without_a_whole_checkpoint_cannot_be_resumed(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path) as run:
        run.stop(checkpoint=False)
    for _ in range(2):  # a refusal leaves the folder free
        with pytest.raises(CheckpointError, match="there is no complete checkpoint to resume from"):
            prepare(RunOptions(resume=tmp_path))


@pytest.mark.anyio
async def test_a_folder_takes_one_run_at_a_time(tmp_path: Path, inside: Any) -> None:
    await leave(tmp_path, inside)
    written = (tmp_path / "metrics.jsonl").read_bytes()
    async with open_run(resume=tmp_path, backend=inside) as run:
        with pytest.raises(RunFolderError, match="a run is writing into it already"):
            prepare(RunOptions(resume=tmp_path, overrides=["seed=9"]))
        assert "seed" not in (tmp_path / "topology.toml").read_text()
        assert await run["counter"].ask(GetTotal()) == Total(3)
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(written)
    async with open_run(resume=tmp_path, backend=inside) as run:
        pass


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    script = (
        "import anyio, os, sys\n"
        "from actorq.run.open_run import open_run\n"
        "from tests.run.toy import topology\n"
        "async def main():\n"
        "    async with open_run(topology(), out=sys.argv[1]) as run:\n"
        "        await run.checkpoint()\n"
        "        print('running', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"running\n"
        with pytest.raises(RunFolderError, match="a run is writing into it already"):
            prepare(RunOptions(resume=tmp_path))
        child.kill()

    async def go_on() -> None:
        async with open_run(resume=tmp_path):
            pass

    anyio.run(go_on)


@pytest.mark.anyio
async def test_a_checkpoint_waits_for_the_handler_at_hand(tmp_path: Path, inside: Any) -> None:
    key = f"{tmp_path} gate"
    async with open_run(topology(), backend=inside, out=tmp_path) as run, anyio.create_task_group() as tasks:
        tasks.start_soon(run["counter"].ask, WaitAt(key))
        await opened(f"{key} waited at")
        paths = list[Path]()

        async def keep() -> None:
            paths.append(await run.checkpoint())

        tasks.start_soon(keep)
        tasks.start_soon(keep)
        await anyio.lowlevel.checkpoint()
        assert not paths
        gates[key].set()
    assert [path.name for path in paths] == ["checkpoint-000001", "checkpoint-000002"]
