"""A run inside another async application: followed, asked, cancelled, without leftovers."""

from __future__ import annotations

import asyncio
import gc
import traceback
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from actorq.run.open_run import Run, RunFailed, RunOptions, open_run, prepare, running
from actorq.run.records.recorder import Progress
from actorq.run.records.summary import read_summary

from .toy import (
    Add,
    Crash,
    Gated,
    GetTotal,
    Hold,
    Worker,
    files_and_threads,
    gates,
    left_behind,
    opened,
    role,
    topology,
)

HANGING_SECONDS = 20.0
"""Cancelling takes two seconds at most, but of a processor that is there: this only tells it from hanging."""


async def some_steps(run: Run) -> Progress:
    """Follow the progress until there is some."""
    async for progress in run.progress(every_seconds=0.005):
        if progress.counts.get("env_steps", 0) >= 10:
            return progress
    raise AssertionError("the run has ended")


WORKING = topology(actors={"worker": role(Worker)})


def test_an_application_on_trio_follows_and_cancels(tmp_path: Path, inside: Any) -> None:
    running, over = trio.Event(), trio.Event()

    async def train(scope: trio.CancelScope) -> None:
        with scope:
            async with open_run(WORKING, backend=inside, out=tmp_path) as run:
                await some_steps(run)
                running.set()
                await run.wait()
        over.set()

    async def main() -> None:
        before = files_and_threads()
        async with trio.open_nursery() as task_group:
            scope = trio.CancelScope()
            task_group.start_soon(train, scope)
            await running.wait()
            scope.cancel()
            with trio.fail_after(HANGING_SECONDS):
                await over.wait()
        assert left_behind(before) == (0, [])
        assert trio.lowlevel.current_statistics().tasks_living <= 3, "this one and the loop's own"

    trio.run(main)
    assert read_summary(tmp_path / "summary.json").stopped_by == "interrupt"
    assert (tmp_path / "checkpoints").is_dir()


def test_an_application_on_asyncio_follows_and_cancels(tmp_path: Path, inside: Any) -> None:
    async def train(running: asyncio.Event) -> None:
        async with open_run(WORKING, backend=inside, out=tmp_path) as run:
            await some_steps(run)
            running.set()
            await run.wait()

    async def main() -> None:
        before = files_and_threads()
        running = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            training = tasks.create_task(train(running))
            await running.wait()
            training.cancel()
            async with asyncio.timeout(HANGING_SECONDS):
                await asyncio.wait([training])
        assert training.cancelled()
        assert left_behind(before) == (0, [])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert read_summary(tmp_path / "summary.json").stopped_by == "interrupt"
    assert (tmp_path / "checkpoints").is_dir()


def test_a_loop_that_is_torn_down_does_not_wait_for_the_run(tmp_path: Path, inside: Any) -> None:
    """asyncio cancels all tasks then, the shielded ones too."""

    def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with open_run(WORKING, backend=inside, out=tmp_path) as run:
            await some_steps(run)
            asyncio.get_running_loop().call_soon(leave)
            await run.wait()

    with pytest.raises(SystemExit):
        asyncio.run(main())


@pytest.mark.anyio
async def test_an_actors_exception_comes_with_its_traceback(tmp_path: Path, inside: Any) -> None:
    async def train() -> None:
        async with open_run(topology(), backend=inside, out=tmp_path) as run:
            await run["counter"].tell(Crash())
            await run.wait()

    with pytest.raises(RunFailed, match=r"^actor 'counter' crashed in crash over Crash") as failed:
        await train()
    cause = failed.value.__cause__
    assert isinstance(cause, ValueError)
    last = traceback.extract_tb(cause.__traceback__)[-1]
    assert (Path(last.filename).name, last.name) == ("toy.py", "crash")
    assert read_summary(tmp_path / "summary.json").stopped_by == "failure"


@pytest.mark.anyio
async def test_many_runs_leave_nothing_behind(tmp_path: Path, inside: Any) -> None:
    async def once(number: int, crash: bool) -> None:
        try:
            async with open_run(topology(), backend=inside, out=tmp_path / str(number)) as run:
                await run["counter"].tell(Crash() if crash else Add(number))
                if crash:
                    await run.ended()
                assert crash or (await run["counter"].ask(GetTotal())).value == number
        except RunFailed:
            assert crash

    await once(1, crash=False)
    gc.collect()
    before = files_and_threads()
    for number in range(2, 6):
        await once(number, crash=number % 2 == 0)
    assert left_behind(before) == (0, [])


@pytest.mark.anyio
async def test_two_runs_at_once(tmp_path: Path, inside: Any) -> None:
    async with (
        open_run(topology(), backend=inside, out=tmp_path / "one") as one,
        open_run(topology(), backend="trio", out=tmp_path / "two") as two,
    ):
        await one["counter"].tell(Add(1))
        await two["counter"].tell(Add(2))
        assert (await one["counter"].ask(GetTotal())).value == 1
        one.stop()
        await one.wait()
        assert (await two["counter"].ask(GetTotal())).value == 2
    assert two.summary is not None


class SelfReply(Exception):
    """The application's."""


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [SelfReply, KeyboardInterrupt])
async def test_the_bodys_own_exception_comes_out_as_it_is(
    tmp_path: Path, inside: Any, kind: type[BaseException]
) -> None:
    key, error = str(tmp_path), kind("mine")
    with pytest.raises(kind) as raised:
        async with open_run(
            topology(actors={"gated": role(Gated, key=key)}), backend=inside, out=tmp_path
        ) as run:
            raise error
    assert raised.value is error
    assert gates[f"{key} stopped"].is_set(), "on_stop has run"
    assert run.summary is not None
    assert run.summary.stopped_by == "request"


@pytest.mark.anyio
async def test_an_exception_over_the_progress_comes_out_as_it_is(tmp_path: Path, inside: Any) -> None:
    async def train() -> None:
        async with open_run(WORKING, backend=inside, out=tmp_path) as run:
            async for _ in run.progress(every_seconds=0.001):
                raise SelfReply

    with pytest.raises(SelfReply):
        await train()


@pytest.mark.anyio
async def test_progress_ends_after_the_run_and_may_be_left(tmp_path: Path, inside: Any) -> None:
    async with open_run(WORKING, backend=inside, out=tmp_path) as run:
        async for _ in run.progress(every_seconds=0.001):
            break
        gc.collect()  # trio would warn here of a generator that was left
        readings = []
        async for progress in run.progress(every_seconds=0.001):
            readings.append(progress)
            run.stop()
        assert run.summary is not None
        assert readings[-1].counts.get("updates", 0) == run.summary.updates
        assert [reading async for reading in run.progress()] == []


@pytest.mark.anyio
async def test_the_body_may_leave_early_or_stay_on(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path / "left") as left:
        pass
    assert left.has_ended
    assert left.summary is not None
    assert (await left.wait()) is left.summary
    async with open_run(topology(), backend=inside, out=tmp_path / "stayed") as stayed:
        stayed.stop("enough")
        summary = await stayed.wait()
        assert summary.stopped_by == "enough"
        await anyio.lowlevel.checkpoint()
        assert (await stayed.wait()) is summary
    assert stayed.summary is summary


@pytest.mark.anyio
async def test_waiting_may_be_cancelled(tmp_path: Path, inside: Any) -> None:
    async with open_run(topology(), backend=inside, out=tmp_path) as run:
        with anyio.move_on_after(0):
            await run.wait()
        await run["counter"].tell(Add(3))
        assert (await run["counter"].ask(GetTotal())).value == 3


@pytest.mark.anyio
async def test_a_failure_without_a_waiting_task_is_raised_once(tmp_path: Path, inside: Any) -> None:
    async def nobody_waits() -> None:
        async with open_run(topology(), backend=inside, out=tmp_path / "unseen") as run:
            await run["counter"].tell(Crash())
            await run.ended()

    with pytest.raises(RunFailed):
        await nobody_waits()
    async with open_run(topology(), backend=inside, out=tmp_path / "seen") as run:
        await run["counter"].tell(Crash())
        with pytest.raises(RunFailed):
            await run.wait()
    async with open_run(topology(), backend=inside, out=tmp_path / "failed") as run:
        await run["counter"].tell(Crash())
        with pytest.raises(RunFailed):
            await run.wait()
        with pytest.raises(RunFailed):
            await run.wait()


@pytest.mark.anyio
async def test_a_cancelled_application_waits_for_the_end(tmp_path: Path, inside: Any) -> None:
    """However often it is cancelled: what must be written is."""
    key = str(tmp_path)
    plan = topology(actors={"gated": role(Gated, key=key, stops_at=f"{key} gate")})
    async with anyio.create_task_group() as tasks:

        async def train() -> None:
            async with open_run(plan, backend=inside, out=tmp_path):
                pass

        tasks.start_soon(train)
        await opened(f"{key} stopping")
        tasks.cancel_scope.cancel()
        gates[f"{key} gate"].set()
    assert gates[f"{key} stopped"].is_set()
    assert read_summary(tmp_path / "summary.json").stopped_by == "request"


@pytest.mark.anyio
async def test_a_start_that_hangs_can_be_cancelled(tmp_path: Path, inside: Any) -> None:
    key = str(tmp_path)
    plan = topology(actors={"gated": role(Gated, key=key, starts_at=f"{key} never")})
    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def train() -> None:
            with scope:
                async with open_run(plan, backend=inside, out=tmp_path):
                    pytest.fail("it never starts")
            over.set()

        tasks.start_soon(train)
        await opened(f"{key} starting")
        scope.cancel()
        with anyio.fail_after(HANGING_SECONDS):
            await over.wait()
    gates[f"{key} never"].set()
    summary = read_summary(tmp_path / "summary.json")
    assert summary.stopped_by == "interrupt"
    assert summary.actors.keys() == {"counter", "gated"}
    assert not (tmp_path / "checkpoints").exists(), "what has not started has nothing to go on from"


@pytest.mark.anyio
async def test_an_application_that_is_cancelled_already(tmp_path: Path, inside: Any) -> None:
    """A prepared run that never starts leaves nothing open."""
    before = files_and_threads()
    run = prepare(RunOptions(source=topology(), backend=inside, out=tmp_path))
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with running(run):
            pytest.fail("it is not begun")
    assert read_summary(tmp_path / "summary.json").stopped_by == "interrupt"
    assert left_behind(before) == (0, [])


@pytest.mark.anyio
async def test_a_start_that_hangs_ends_with_the_time_it_was_given(tmp_path: Path, inside: Any) -> None:
    key = str(tmp_path)
    plan = topology(
        actors={"gated": role(Gated, key=key, starts_at=f"{key} never")}, stop={"wall_seconds": 0.05}
    )
    async with open_run(plan, backend=inside, out=tmp_path) as run:
        assert (await run.wait()).stopped_by == "wall_seconds"
    gates[f"{key} never"].set()


@pytest.mark.anyio
async def test_the_applications_loop_is_never_held(tmp_path: Path, inside: Any) -> None:
    """An actor that computes holds the actors' loop alone: asking, telling and stopping go on beside it."""
    key = str(tmp_path)
    async with (
        open_run(topology(), backend=inside, out=tmp_path) as run,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(run["counter"].ask, Hold(f"{key} gate"))
        await opened(f"{key} gate held")  # the actors' loop takes no call from here on
        tasks.start_soon(run["counter"].tell, Add(1))
        run.progress_now()
        run.stop()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        gates[f"{key} gate"].set()  # which it would not come to if any of that held it
    assert run.summary is not None


@pytest.mark.anyio
async def test_checking_does_not_hold_the_applications_loop(tmp_path: Path, inside: Any) -> None:
    """It imports whatever the topology names, and reads checkpoints of any size."""
    key = str(tmp_path)

    class Slow(Gated):
        @classmethod
        def problems(cls, config: Any, tables: Any) -> Any:
            assert gates[f"{key} checking"].wait(timeout=50)
            return ()

    plan = topology(actors={"slow": role(Slow, key=key)})
    async with anyio.create_task_group() as tasks:

        async def train() -> None:
            async with open_run(plan, backend=inside, out=tmp_path):
                pass

        tasks.start_soon(train)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        gates[f"{key} checking"].set()
