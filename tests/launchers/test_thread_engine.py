"""The actors' loop: called from another, and given up if an actor never gives it back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied
from actorq.actors.runtime.reports import ReportTotals
from actorq.launchers import thread_engine as here
from actorq.launchers.thread_engine import ThreadEngine
from actorq.run.open_run import RunFailed, open_run
from actorq.topology import check
from tests.run.toy import Crash, Exiting, GetTotal, Hold, Total, gates, opened, role, topology


@pytest.fixture(params=["asyncio", "trio"])
def inside(request: pytest.FixtureRequest) -> str:
    """The actors' event loop; `anyio_backend` is the application's."""
    backend: str = request.param
    return backend


def engine(backend: Any, **tables: Any) -> ThreadEngine:
    plan = check(topology(**tables))
    return ThreadEngine(plan, ReportTotals(), backend=backend, tick=lambda: None, tick_seconds=60)


@pytest.mark.anyio
async def test_calls_come_back_whatever_becomes_of_the_run(inside: Any) -> None:
    actors, started = engine(inside), anyio.Event()
    with pytest.raises(RuntimeError, match="the run has not started"):
        await actors.call(anyio.sleep, 0)
    outcomes: dict[str, object] = {}

    async def call(name: str, function: Any, *args: Any) -> None:
        try:
            outcomes[name] = await actors.call(function, *args)
        except Exception as error:
            outcomes[name] = error

    async def answer() -> Any:
        return await actors.system.ref("counter").ask(GetTotal())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(actors.run, started.set)
        await started.wait()
        async with anyio.create_task_group() as calls:
            calls.start_soon(call, "value", answer)
            calls.start_soon(call, "error", int, "no number")
            calls.start_soon(call, "endless", anyio.sleep_forever)
            await call("last", answer)
            actors.stop()
    assert outcomes["value"] == outcomes["last"] == Total(0)
    assert isinstance(outcomes["error"], ValueError)
    assert isinstance(outcomes["endless"], ActorDied)
    with pytest.raises(ActorDied, match="the run has ended"):
        await actors.call(answer)


@pytest.mark.anyio
async def test_a_cancelled_call_is_cancelled_inside(inside: Any) -> None:
    actors, started = engine(inside), anyio.Event()
    begun, cancelled = threading.Event(), threading.Event()

    async def endless() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(actors.run, started.set)
        await started.wait()
        async with anyio.create_task_group() as calls:
            calls.start_soon(actors.call, endless)
            await anyio.to_thread.run_sync(begun.wait)
            calls.cancel_scope.cancel()
        await anyio.to_thread.run_sync(cancelled.wait)
        actors.stop()


@pytest.mark.anyio
async def test_a_stop_that_comes_before_the_start(inside: Any) -> None:
    actors = engine(inside)
    actors.stop()
    await actors.run(lambda: None)


@pytest.mark.anyio
async def test_a_loop_that_an_actor_never_gives_back_is_left_behind_and_named(
    tmp_path: Path, inside: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(here, "LEAVE_SECONDS", 0.01)
    key = f"{tmp_path} gate"

    async def train() -> None:
        async with (
            open_run(topology(), backend=inside, out=tmp_path) as run,
            anyio.create_task_group() as asks,
        ):

            async def ask() -> None:
                with pytest.raises(ActorDied, match="the run has ended"):
                    await run["counter"].ask(Hold(key))

            asks.start_soon(ask)
            await opened(f"{key} held")
            run.stop()

    with pytest.raises(RunFailed, match=r"the actors still held their loop 0\.01 s after the stop"):
        await train()
    assert "toy.py" in caplog.text
    assert "in hold" in caplog.text
    assert (tmp_path / "summary.json").exists()
    assert not (tmp_path / "checkpoints").exists()
    left = next(thread for thread in threading.enumerate() if thread.name == "actorq")
    assert left.daemon, "it keeps no process from ending"
    gates[key].set()
    left.join(timeout=50)
    assert not left.is_alive(), "free again, it finds its way to the end"


@pytest.mark.anyio
async def test_an_actor_that_exits_ends_the_run_and_nothing_else(tmp_path: Path, inside: Any) -> None:
    async def train() -> None:
        plan = topology(actors={"exiting": role(Exiting)})
        async with open_run(plan, backend=inside, out=tmp_path) as run:
            await run["exiting"].tell(Crash())
            await run.wait()

    with pytest.raises(RunFailed, match="ended the actors' loop"):
        await train()
    assert (tmp_path / "summary.json").exists()


@pytest.mark.anyio
async def test_actors_that_cannot_be_made_fail_the_start(
    inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actors = engine(inside)

    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("written in a way that can't work")

    monkeypatch.setattr(here, "System", broken)
    with pytest.raises(TypeError, match="written in a way"):
        await actors.run(pytest.fail)
