"""Guarded process: its setup, its end, and that it never outlives the process that started it."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actorq.actors import ActorSpec
from actorq.actors.wire.state_codec import StateValue
from actorq.launchers.node_setup import Failed
from actorq.launchers.pickling import PicklingError
from actorq.launchers.shared_page import make_page, read_page
from tests.launchers.processes import ask, running, start
from tests.launchers.small_actors import Calling, Quiet
from tests.launchers.small_node import Do


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    """No descriptor and no process, not even a zombie, is left by any test."""
    before = descriptors()
    yield
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


def gone(pid: int) -> bool:
    """Wait until a process that is nobody's child here has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 50)[0])
    finally:
        os.close(pidfd)


# What it is given.


@pytest.mark.anyio
async def test_a_node_is_set_up_and_obeys(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    spec = ActorSpec(name="quiet", cls=Quiet, config=Quiet.Config(level=3))
    async with running(anyio_backend, specs=(spec,), threads=2) as node:
        about = await ask(node, "describe")
        assert about["pid"] == about["group"] == node.pid
        assert (about["node"], about["configs"]) == ("explorers.1", ["Config(level=3)"])
        assert about["threads"] == "2"
        assert about["python_path"] == "/somewhere"
        path = list(dict.fromkeys(sys.path))
        assert about["sys_path"][: len(path)] == path
        assert about["main"] == getattr(sys.modules["__main__"], "__file__", None)
        assert about["interrupt_ignored"]
        assert {"torch", "typer", "rich", "gymnasium", "structlog", "cloudpickle"}.isdisjoint(
            about["modules"]
        )


@pytest.mark.anyio
async def test_states_go_there_and_back(anyio_backend: str) -> None:
    state: dict[str, Any] = {
        "big": np.arange(300_000.0),
        "nested": (1, [2**70, {"x": float("inf")}]),
        "bytes": b"\0\1",
    }
    async with running(anyio_backend) as node:
        echoed = await ask(node, "echo", state)
    assert np.array_equal(echoed.pop("big"), state.pop("big"))
    assert echoed == state


@pytest.mark.anyio
async def test_an_actor_that_cant_be_pickled_is_named(anyio_backend: str) -> None:
    lock = threading.Lock()
    fine = ActorSpec(name="fine", cls=Quiet, config=Quiet.Config())
    stuck = ActorSpec(name="stuck", cls=Calling, config=Calling.Config(call=lambda: lock))
    with pytest.raises(PicklingError, match=r"actor 'stuck' can't run in another process: .*_thread.lock"):
        await start(anyio_backend, specs=(fine, stuck))


@pytest.mark.anyio
async def test_a_setup_that_cant_be_unpickled_is_reported(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: of a class in a module that isn't there."""
    passing = type(sys)("passing_module")
    made = type("Passing", (Quiet,), {"__module__": "passing_module"})
    passing.Passing = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "passing_module", passing)
    async with running(anyio_backend, specs=(ActorSpec(name="a", cls=made),)) as node:
        reason = await node.ended()
    assert reason.startswith("exited with status 1\n")
    assert reason.endswith("ModuleNotFoundError: No module named 'passing_module'")


# How it ends.


@pytest.mark.anyio
async def test_a_node_that_has_done_its_work(anyio_backend: str) -> None:
    async with running(anyio_backend) as node:
        await node.stream.send(Do("end"))
        assert await node.ended() == "exited with status 0"
        assert [node_event async for node_event in node.stream] == []


@pytest.mark.anyio
async def test_a_failing_node_reports_its_error_before_it_ends(anyio_backend: str) -> None:
    async with running(anyio_backend) as node:
        await node.stream.send(Do("fail"))
        assert await node.ended() == "exited with status 1"
        (failed,) = [node_event async for node_event in node.stream]  # read after its end
    assert isinstance(failed, Failed)
    assert failed.traceback.rstrip().endswith("ValueError: this node is told to fail")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (Do("leave", StateValue(3)), "exited with status 3"),
        (Do("leave", StateValue(0)), "exited with status 0"),
    ],
)
async def test_an_end_at_once(anyio_backend: str, order: Do, reason: str) -> None:
    async with running(anyio_backend) as node:
        await node.stream.send(order)
        assert await node.ended() == reason


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_signal_is_named(anyio_backend: str, number: signal.Signals) -> None:
    async with running(anyio_backend) as node:
        await ask(node, "echo")
        os.kill(node.pid, signal.SIGINT)  # ignored
        os.kill(node.pid, number)
        assert await node.ended() == f"killed by {number.name}"
        assert [node_event async for node_event in node.stream] == []
        node.kill()  # and nothing happens


@pytest.mark.anyio
async def test_its_output_is_logged_and_the_last_lines_reported(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors = "".join(f"line {number}\n" for number in range(30)) + "no newline"
    async with running(anyio_backend) as node:
        await ask(node, "say", {"out": "out\n", "err": errors})
        await node.stream.send(Do("leave", StateValue(4)))
        assert (await node.ended()).splitlines() == [
            "exited with status 4",
            *(f"line {number}" for number in range(11, 30)),
            "no newline",
        ]
    said = [
        (r.levelname, r.getMessage(), vars(r)["node"]) for r in caplog.records if r.name == "actorq.output"
    ]
    assert ("INFO", "out", "explorers.1") in said
    assert said[-1] == ("WARNING", "no newline", "explorers.1")
    assert len(said) == 32


@pytest.mark.anyio
async def test_a_printed_line_is_not_kept_back(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(anyio_backend) as node:
        await node.stream.send(Do("print_line", StateValue("about to die")))
        assert await node.ended() == "killed by SIGKILL"
    assert "about to die" in caplog.messages


@pytest.mark.anyio
@pytest.mark.parametrize("busy", ["loop_in_python", "loop_in_c"])
async def test_leaving_kills_a_node_that_holds_its_loop(anyio_backend: str, busy: str) -> None:
    async with running(anyio_backend) as node:
        await node.stream.send(Do(busy))
    assert await node.ended() == "killed by SIGKILL"


@pytest.mark.anyio
async def test_one_that_was_never_served_is_killed(anyio_backend: str) -> None:
    node = await start(anyio_backend)
    await node.aclose()
    await node.aclose()
    assert (await node.ended()).startswith("killed by SIGKILL")


@pytest.mark.anyio
async def test_a_stopped_process_is_distinguished_from_one_that_computes(anyio_backend: str) -> None:
    async with running(anyio_backend) as node:
        await ask(node, "echo")
        await node.stream.send(Do("loop_in_python"))
        assert not node.is_stopped()
        os.kill(node.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, node.pid, os.WSTOPPED | os.WNOWAIT)  # noqa: ASYNC222
        assert node.is_stopped()
    assert not node.is_stopped()


@pytest.mark.anyio
async def test_its_own_children_end_with_it(anyio_backend: str) -> None:
    """Though they hold its standard output open."""
    async with running(anyio_backend) as node:
        grandchild = await ask(node, "have_child")
        os.kill(node.pid, signal.SIGKILL)
        assert await node.ended() == "killed by SIGKILL"
        assert gone(grandchild)


@pytest.mark.anyio
async def test_an_orphan_that_holds_the_socket_hides_no_death(anyio_backend: str) -> None:
    async with running(anyio_backend) as node:
        orphan = await ask(node, "have_orphan")
        try:
            os.kill(node.pid, signal.SIGKILL)
            assert [node_event async for node_event in node.stream] == []
        finally:
            os.kill(orphan, signal.SIGKILL)


@pytest.mark.anyio
async def test_a_page_is_read_after_its_writers_death(anyio_backend: str) -> None:
    page = make_page(10_000)
    async with running(anyio_backend, delivery_log_fd=page) as node:
        await node.stream.send(Do("write_page", StateValue(b"begun, not done")))
        assert await node.ended() == "killed by SIGKILL"
    written = read_page(page)
    os.close(page)
    assert len(written) == 10_000
    assert written.rstrip(b"\0") == b"begun, not done"


# Whatever ends the process that started it.

PARENT = """
import sys
import anyio
from tests.launchers.small_node import Do
from tests.launchers.process.test_guarded_process import ask, running

async def main(backend, busy):
    async with running(backend) as node:
        about = await ask(node, "describe")
        if busy:
            await node.stream.send(Do(busy))
        print(about["pid"], flush=True)
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("busy", ["", "loop_in_python", "loop_in_c"])
def test_a_killed_parent_takes_its_node_along(backend: str, busy: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, backend, busy], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert gone(child)


DIES_WITH = """
import os, sys
from actorq.launchers.process.child import die_with_parent
die_with_parent(int(sys.argv[1]))
print("alive")
"""


def test_a_node_whose_parent_is_gone_already_does_not_start() -> None:
    """The parent it was told of isn't: as when that one ends before the kernel is asked for the signal."""
    late = subprocess.run([sys.executable, "-c", DIES_WITH, "1"], capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (1, b"")
    timely = subprocess.run(
        [sys.executable, "-c", DIES_WITH, str(os.getpid())], capture_output=True, check=False
    )
    assert timely.stdout == b"alive\n"
