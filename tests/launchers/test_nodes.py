"""Node processes: outcomes for their actors, peers and messages when they die."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any, Literal

import anyio
import numpy as np
import pytest

from actorq.actors import (
    ActorDied,
    ActorFailed,
    GroupSpec,
    MailboxBounds,
    NodeDied,
    NodeFailed,
    RestartLimits,
    State,
    System,
)
from actorq.actors.runtime import system as system_module
from actorq.actors.supervision import (
    remote_node as remote,
)
from actorq.actors.supervision.remote_node import RemoteActorCell, RemoteNode
from actorq.actors.wire.node_incarnation import new_incarnation
from actorq.launchers.node_setup import NodeSetup
from actorq.launchers.process import launcher as local
from actorq.launchers.process.guarded_process import GuardedProcess
from actorq.launchers.process.launcher import ProcessLauncher, ProcessNode
from tests.actors.world import AT_ONCE

from .actors import (
    Board,
    End,
    Gate,
    Hold,
    NetworkBackend,
    Number,
    Say,
    Subscriber,
    Wait,
    WaitAndAnswer,
    WeightPublisher,
    Weights,
    Who,
    WhoIsNext,
    Worker,
    opened,
)
from .nodes import Heard, actor, board, gate, running

__all__ = ["board", "gate"]

FATAL = (GroupSpec(limits=RestartLimits(max_restarts=0)),)
"""The first crash of an actor ends the run."""


async def kill(board: Board, name: str, incarnation: int = 1) -> None:
    """Kill the process in which the actor leads this life."""
    os.kill(int(await board.reads(f"{name} starting", incarnation)), signal.SIGKILL)


def weights(version: int) -> Weights:
    return Weights(version, np.full(2, version, np.float32))


async def told(system: System, name: str, *numbers: int) -> int:
    """Tell an actor numbers; return its total when it has them."""
    ref = system.ref(name)
    for number in numbers:
        await ref.tell(Number(number))
    total: int = (await ref.ask(Who())).total
    return total


# What comes back, and to whom.


@pytest.mark.anyio
async def test_a_killed_node_comes_back_and_all_talk_to_its_successor(
    anyio_backend: Any, board: Board
) -> None:
    specs = [
        actor("here", "main", board, next="b"),
        actor("there", "one", board, next="b"),
        actor("a", "two", board, next="here"),
        actor("b", "two", board),
    ]
    async with running(anyio_backend, specs) as system:
        first = await system.ref("b").ask(Who())
        await kill(board, "b")
        await board.reads("b starting", 2)
        second = await system.ref("b").ask(Who())
        assert first.pid != second.pid != os.getpid()
        for name in ("here", "there"):
            assert await system.ref(name).ask(WhoIsNext()) == second
        assert (await system.ref("a").ask(WhoIsNext())).pid == os.getpid()
        assert [each.restarts for each in system.statistics().actors] == [0, 0, 1, 1]
        assert system.statistics().dead_letters == 0


@pytest.mark.anyio
async def test_asks_to_a_dead_node_fail_with_the_reason(anyio_backend: Any, board: Board, gate: Gate) -> None:
    specs = [actor("a", "one", board, next="b"), actor("b", "two", board)]
    failures: list[str] = []

    async def ask(name: str, request: Any) -> None:
        with pytest.raises(ActorDied) as failure:
            await system.ref(name).ask(request)
        failures.append(str(failure.value))

    async with running(anyio_backend, specs) as system, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "b", WaitAndAnswer(gate.path))
        await board.reads("b waits")
        tasks.start_soon(ask, "a", WhoIsNext())
        tasks.start_soon(ask, "b", Who())
        await board.reads("a asks")
        await kill(board, "b")
        await board.reads("a starting", 2)  # it did not expect that
    from_elsewhere, in_progress, behind = sorted(failures)
    assert in_progress == "outside asked b WaitAndAnswer: in doubt: node two killed by SIGKILL"
    assert behind == "outside asked b Who: undelivered: node two killed by SIGKILL"
    assert "a asked b Who: undelivered: node two killed by SIGKILL" in from_elsewhere


@pytest.mark.anyio
@pytest.mark.parametrize("every", [{"snapshot_every_updates": 1}, {"snapshot_every_seconds": 0.01}])
async def test_actors_get_their_last_snapshot(anyio_backend: Any, board: Board, every: Any) -> None:
    async with running(anyio_backend, [actor("a", "one", board, **every)], reports=Heard()) as system:
        assert await told(system, "a", 3, 4) == 7
        await board.reads("a state 7", 3 if "snapshot_every_seconds" in every else 1)
        await told(system, "a", 0)
        assert isinstance(system.reports, Heard)
        await system.reports.reaches("updates", 3)  # what comes before it has come as well
        await kill(board, "a")
        assert await board.reads("a loaded") == "7"
        assert await told(system, "a", 1) == 8


@pytest.mark.anyio
async def test_what_was_not_begun_is_handled_once_by_the_successor(
    anyio_backend: Any, board: Board, gate: Gate
) -> None:
    specs = [
        actor("local", "main", board, next="b"),
        actor("a", "one", board, next="b"),
        actor("b", "two", board),
    ]
    async with running(anyio_backend, specs) as system:
        await system.ref("b").tell(Wait(gate.path))
        await board.reads("b waits")
        for sender in ("local", "a"):
            await system.ref(sender).tell(NetworkBackend(50))
            await system.ref(sender).ask(Who())
        await kill(board, "b")
        for sender in ("local", "a"):
            await system.ref(sender).tell(Number(50))  # to themselves: see the end of their lines
        await board.reads("b added", 100)
        statistics = system.statistics()
        assert await told(system, "b") == 2 * sum(range(50))
    assert (statistics.undelivered, statistics.in_doubt) == (0, 1), "the message at hand"
    added = [int(line.split()[-1]) for line in board.lines if line.startswith("b added")]
    assert sorted(added) == sorted([*range(50)] * 2)


@pytest.mark.anyio
async def test_a_restarted_actor_gets_the_newest_of_its_feeds_again(anyio_backend: Any, board: Board) -> None:
    specs = [
        actor("here", "main", board, WeightPublisher),
        actor("there", "one", board, WeightPublisher),
        actor("s", "two", board, Subscriber, weights=("here", "there")),
    ]
    async with running(anyio_backend, specs) as system:
        for name, version in [("here", 1), ("there", 2), ("here", 3), ("there", 4)]:
            await system.ref(name).tell(weights(version))
            await board.reads(f"s has {version} {2.0 * version}")
        await kill(board, "s")
        for version in (3, 4):
            await board.reads(f"s has {version} {2.0 * version}", 2)
    for version in (1, 2):
        assert board.lines.count(f"s has {version} {2.0 * version}") == 1


@pytest.mark.anyio
async def test_two_nodes_killed_at_once(anyio_backend: Any, board: Board) -> None:
    specs = [actor("a", "one", board, next="b"), actor("b", "two", board, next="a")]
    async with running(anyio_backend, specs) as system:
        for name in ("a", "b"):
            await kill(board, name)
        for name in ("a", "b"):
            await board.reads(f"{name} starting", 2)
            assert (await system.ref(name).ask(WhoIsNext())).pid != os.getpid()


# Limits, policies, groups.


@pytest.mark.anyio
async def test_past_the_limit_the_run_ends_and_names_the_node(anyio_backend: Any, board: Board) -> None:

    async def run() -> None:
        async with running(anyio_backend, [actor("a", "one", board)]):
            for incarnation in range(1, 5):
                await kill(board, "a", incarnation)
            await anyio.sleep_forever()

    with pytest.raises(NodeFailed, match="node 'one' killed by SIGKILL; restarted 3 times") as failure:
        await run()
    assert isinstance(failure.value.__cause__, NodeDied)


@pytest.mark.anyio
async def test_past_the_last_start_that_has_a_number_the_run_ends(anyio_backend: Any, board: Board) -> None:

    async def run() -> None:
        async with running(anyio_backend, [actor("a", "one", board)]) as system:
            cell = system.cells["a"]
            assert isinstance(cell, RemoteActorCell)
            cell.node.starts = 4095
            for incarnation in (1, 2):
                await kill(board, "a", incarnation)
            await anyio.sleep_forever()

    with pytest.raises(NodeFailed, match="SIGKILL; it has been started 4096 times, as often as"):
        await run()


def test_starts_past_the_last_have_no_incarnation() -> None:
    assert new_incarnation(4095) & 4095 == 4095
    with pytest.raises(ValueError, match="start number 4096 of a node: there are 4096 at most"):
        new_incarnation(4096)


@pytest.mark.anyio
async def test_progress_resets_the_count(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "HEALTHY_SECONDS", 0.0)
    reports = Heard()
    async with running(anyio_backend, [actor("a", "one", board)], reports=reports) as system:
        for incarnation in range(1, 7):
            await told(system, "a", 1)
            await reports.reaches("updates", incarnation)
            await kill(board, "a", incarnation)
            await board.reads("a starting", incarnation + 1)


@pytest.mark.anyio
async def test_a_node_that_can_not_be_started_again_is_given_up_whatever_it_did_before(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "HEALTHY_SECONDS", 0.0)
    reports, attempts = Heard(), 0

    async def launch(*_: Any) -> ProcessNode:
        nonlocal attempts
        attempts += 1
        raise NodeDied("did not start: the disk is full")

    async def run() -> None:
        async with running(anyio_backend, [actor("a", "one", board)], reports=reports) as system:
            await told(system, "a", 1)
            await reports.reaches("updates", 1)
            monkeypatch.setattr(ProcessLauncher, "launch", launch)
            await kill(board, "a")
            await anyio.sleep_forever()

    with pytest.raises(NodeFailed, match="node 'one' did not start: the disk is full; restarted 3 times"):
        await run()
    assert attempts == 3


@pytest.mark.anyio
async def test_restart_never_retires_with_the_node(anyio_backend: Any, board: Board) -> None:
    specs = [
        actor("a", "one", board, next="never"),
        actor("never", "two", board, restart="never"),
        actor("b", "two", board),
    ]
    async with running(anyio_backend, specs) as system:
        await kill(board, "never")
        await board.reads("b starting", 2)
        with pytest.raises(ActorDied, match="its restart policy is never"):
            await system.ref("never").ask(Who())
        await system.ref("a").tell(NetworkBackend(1))
        assert "its restart policy is never" in await board.reads("a undelivered UNDELIVERED")
    assert len([line for line in board.lines if line.startswith("never starting")]) == 1


@pytest.mark.anyio
async def test_a_node_whose_actors_are_all_retired_is_not_restarted(anyio_backend: Any, board: Board) -> None:
    specs = [
        actor("a", "one", board, next="never"),
        actor("never", "two", board, restart="never"),
    ]
    async with running(anyio_backend, specs) as system:
        await kill(board, "never")
        with pytest.raises(ActorDied, match="never"):
            await system.ref("never").ask(Who())
        await kill(board, "a")
        await board.reads("a starting", 2)
        await system.ref("a").tell(NetworkBackend(1))
        await board.reads("a undelivered UNDELIVERED")
    assert len([line for line in board.lines if line.startswith("never starting")]) == 1


@pytest.mark.anyio
async def test_a_group_is_started_again_as_a_whole_on_all_its_nodes(anyio_backend: Any, board: Board) -> None:
    specs = [
        actor(name, node, board, group="g") for name, node in [("a", "main"), ("b", "one"), ("c", "two")]
    ]
    specs.append(actor("d", "two", board))
    groups = [GroupSpec(name="g", strategy="one-for-all")]
    async with running(anyio_backend, specs, groups) as system:
        before = {name: await system.ref(name).ask(Who()) for name in "abcd"}
        await kill(board, "b")
        for name in "abc":
            await board.reads(f"{name} starting", 2)
        after = {name: await system.ref(name).ask(Who()) for name in "abcd"}
        assert [each.restarts for each in system.statistics().actors] == [1, 1, 1, 0]
    assert {"a stops 0", "c stops 0"} <= set(board.lines)
    assert [name for name in "abcd" if before[name].pid != after[name].pid] == ["b"]


class SlowToStop(Worker):
    class Config(Worker.Config):
        gate_of_stop: str = ""

    config: Config

    async def on_stop(self) -> None:
        self.note("stopping")
        await opened(self.config.gate_of_stop)


@pytest.mark.anyio
async def test_a_crash_while_two_groups_stop_for_their_lost_node_loses_no_actor(
    anyio_backend: Any, board: Board, gate: Gate
) -> None:
    """The recovery of `p`'s group takes that of the node over, and with it `q`, which is still stopping."""
    specs = [
        actor("x", "one", board, group="g"),
        actor("p", "main", board, group="g"),
        actor("w", "one", board, group="h"),
        actor("q", "main", board, SlowToStop, group="h", gate_of_stop=gate.path),
    ]
    groups = [GroupSpec(name=name, strategy="one-for-all", limits=AT_ONCE[0].limits) for name in "gh"]
    async with running(anyio_backend, specs, groups) as system:
        await kill(board, "w")
        await board.reads("q stopping")
        await system.ref("p").tell(End("error"))
        for name in "xpwq":
            await board.reads(f"{name} starting", 2)
            await system.ref(name).ask(Who())
        gate.open()
    await board.reads("x stops")
    started = [line.split()[0] for line in board.lines if "starting" in line]
    assert started[4:] == ["x", "p", "w", "q"]


# Other ends.

ENDS: dict[Literal["exit", "abort", "kill"], str] = {
    "exit": "node one exited with status",
    "abort": "node one killed by SIGABRT",
    "kill": "node one killed by SIGKILL",
}


@pytest.mark.anyio
@pytest.mark.parametrize(("how", "reason"), ENDS.items(), ids=ENDS)
async def test_an_actor_that_ends_its_process(
    anyio_backend: Any, board: Board, how: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(anyio_backend, [actor("a", "one", board), actor("b", "one", board)]) as system:
        await system.ref("a").tell(End(how))
        await board.reads("b starting", 2)
        assert (system.statistics().undelivered, system.statistics().in_doubt) == (0, 1)
    assert reason in caplog.text


@pytest.mark.anyio
async def test_an_actor_that_crashes_affects_no_other(
    anyio_backend: Any, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    specs = [actor("a", "one", board, snapshot_every_updates=1), actor("b", "one", board)]
    async with running(anyio_backend, specs) as system:
        before = await system.ref("a").ask(Who())
        await told(system, "a", 7)
        await board.reads("a state 7")
        await system.ref("a").tell(End("error"))
        assert await told(system, "a", 1) == 8
        assert (await system.ref("a").ask(Who())).pid == before.pid
        assert [each.restarts for each in system.statistics().actors] == [1, 0]
    assert len([line for line in board.lines if line.startswith("b starting")]) == 1
    assert "a crashed in end over End: ValueError: told to crash" in caplog.text
    assert "actors.py" in caplog.text


class CountsInASet(Worker):
    """From nine on, it has a state that can't be sent."""

    def state(self) -> State:
        return {"total": self.total} if self.total < 9 else {"total": {self.total}}


@pytest.mark.anyio
async def test_a_state_that_can_not_be_sent_is_a_crash_of_that_actor_alone(
    anyio_backend: Any, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(
        anyio_backend, [actor("a", "one", board, CountsInASet), actor("b", "one", board)]
    ) as system:
        before = await system.ref("b").ask(Who())
        await told(system, "a", 7)
        assert (await system.states())["a"] == {"total": 7}
        await told(system, "a", 2)
        assert (await system.states())["a"] == {"total": 7}
        await board.reads("a loaded 7")
        assert await told(system, "a", 1) == 8
        assert await system.ref("b").ask(Who()) == before
        assert [each.restarts for each in system.statistics().actors] == [1, 0]
    assert system.final_states["a"] == {"total": 8}
    assert "a crashed in state: StateEncodingError: total is a set" in caplog.text


@pytest.mark.anyio
async def test_a_crash_past_the_limit_has_the_traceback_of_the_other_process(
    anyio_backend: Any, board: Board
) -> None:
    with pytest.raises(
        ActorFailed, match="actor 'a' crashed in on_start: ValueError: told to fail"
    ) as failure:
        async with running(anyio_backend, [actor("a", "one", board, fails_in_start=True)], FATAL):
            pytest.fail("it can't start")
    error = failure.value.__cause__
    assert str(error) == "ValueError: told to fail"
    assert error is not None
    assert "actors.py" in str(error.__cause__)
    assert "in on_start" in str(error.__cause__)


@pytest.mark.anyio
async def test_a_node_whose_code_can_not_be_imported(
    anyio_backend: Any, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lame.py").write_text(
        "import sys\n"
        "from tests.launchers.actors import Worker\n"
        "if 'actorq.launchers.process.child' in ' '.join(sys.orig_argv):\n"
        "    raise ImportError('no such library on this node')\n"
        "class Lame(Worker):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lame  # type: ignore[import-not-found]

    with pytest.raises(NodeFailed, match="node 'one' did not start: exited with status 1") as failure:
        async with running(anyio_backend, [actor("a", "one", board, lame.Lame)]):
            pytest.fail("it can't start")
    assert "ImportError: no such library on this node" in str(failure.value)
    del os.sys.modules["lame"]  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_a_stopped_process_is_ended(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "LOOK_SECONDS", 0.05)
    async with running(anyio_backend, [actor("a", "one", board)]):
        os.kill(int(await board.reads("a starting")), signal.SIGSTOP)
        await board.reads("a starting", 2)
    assert "node one was stopped from outside (SIGSTOP) and is killed" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["computing", "blocking"])
async def test_a_node_that_holds_its_loop_is_left_alone(
    anyio_backend: Any, board: Board, gate: Gate, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, looked = 0, anyio.Event()

    def is_stopped(process: GuardedProcess) -> bool:
        nonlocal looks
        looks += 1
        if looks == 5 * local.STOPPED_LOOKS:
            looked.set()
        return really(process)

    really = GuardedProcess.is_stopped
    async with running(anyio_backend, [actor("a", "one", board)]) as system:
        await system.ref("a").tell(Hold(gate.path, how))
        await board.reads("a holds")
        monkeypatch.setattr(local, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(GuardedProcess, "is_stopped", is_stopped)
        await looked.wait()
        gate.open()
        await board.reads("a held")
        assert (await system.ref("a").ask(Who())).pid == int(await board.reads("a starting"))


# While others start or stop.


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["one", "two"])
async def test_a_node_that_dies_while_the_actors_start(
    anyio_backend: Any, board: Board, gate: Gate, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b` comes after `a` in the file, on its node or on the one that dies: it starts once it is its turn."""
    specs = [
        actor("first", "two", board),
        actor("a", "one", board, gate_of_start=gate.path),
        actor("b", place, board),
    ]

    real, relaunching = ProcessLauncher.launch, anyio.Event()

    async def launch(processes: ProcessLauncher, setup: NodeSetup) -> ProcessNode:
        relaunching.set()
        return await real(processes, setup)

    async def strike() -> None:
        await board.reads("a starting")
        monkeypatch.setattr(ProcessLauncher, "launch", launch)
        await kill(board, "a" if place == "one" else "first")
        await relaunching.wait()
        gate.open()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(strike)
        async with running(anyio_backend, specs) as system:
            for name in ("first", "a", "b"):
                await system.ref(name).ask(Who())
        await board.reads("b starting")
    started = [line.split()[0] for line in board.lines if "starting" in line]
    assert started.count("b") == 1
    assert started.index("b") > started.index("a")


@pytest.mark.anyio
async def test_a_node_that_dies_before_an_actors_turn_and_can_not_be_started_at_once(
    anyio_backend: Any, board: Board, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b`, whose turn comes while its node is down, leads one life: the recovery has no part in it."""
    specs = [
        actor("a", "one", board),
        actor("m", "main", board, gate_of_start=gate.path),
        actor("b", "one", board),
    ]
    real_launch, real_present = ProcessLauncher.launch, RemoteNode.present
    its_turn, attempts = anyio.Event(), 0

    async def present(node: RemoteNode) -> None:
        if node.handle is None:
            its_turn.set()
        await real_present(node)

    async def launch(processes: ProcessLauncher, setup: NodeSetup) -> ProcessNode:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            gate.open()
            await its_turn.wait()
            raise NodeDied("did not start: the disk is full")
        return await real_launch(processes, setup)

    async def strike() -> None:
        await board.reads("m starting")
        await kill(board, "a")

    monkeypatch.setattr(RemoteNode, "present", present)
    monkeypatch.setattr(ProcessLauncher, "launch", launch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(strike)
        async with running(anyio_backend, specs) as system:
            for name in ("a", "b", "a", "b"):
                await system.ref(name).ask(Who())
            await system.states()
    await board.reads("a stops")
    assert attempts == 3
    assert len([line for line in board.lines if line.startswith("b starting")]) == 1


@pytest.mark.anyio
async def test_a_node_that_dies_as_soon_as_it_listens(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, launched = ProcessLauncher.launch, 0

    async def launch(processes: ProcessLauncher, setup: NodeSetup) -> ProcessNode:
        nonlocal launched
        handle = await real(processes, setup)
        launched += 1
        if launched == 3:  # the second start of a node, the others are up
            os.kill(handle.peer.pid, signal.SIGKILL)
            os.waitid(os.P_PID, handle.peer.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 – at once
        return handle

    monkeypatch.setattr(ProcessLauncher, "launch", launch)
    specs = [actor("a", "one", board, next="b"), actor("b", "two", board)]
    async with running(anyio_backend, specs) as system:
        before = await system.ref("a").ask(Who())
        await kill(board, "b")
        await board.reads("b starting", 2)
        assert await system.ref("a").ask(WhoIsNext()) == await system.ref("b").ask(Who())
        assert await system.ref("a").ask(Who()) == before, "the other actor is unaffected"
    assert launched == 4


@pytest.mark.anyio
async def test_what_waits_for_a_node_that_is_down_when_the_run_stops(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    launching = anyio.Event()

    async def launch(*_: Any) -> ProcessNode:
        launching.set()
        await anyio.sleep_forever()
        raise AssertionError

    specs = [
        actor("local", "main", board, next="b"),
        actor("a", "one", board, next="b"),
        actor("b", "two", board),
    ]
    async with running(anyio_backend, specs) as system:
        await board.reads("b runs")
        monkeypatch.setattr(ProcessLauncher, "launch", launch)
        await kill(board, "b")
        await launching.wait()
        for sender in ("local", "a"):
            await system.ref(sender).tell(NetworkBackend(3))
            await system.ref(sender).ask(Who())
    assert (system.undelivered, system.in_doubt) == (6, 0)


@pytest.mark.anyio
async def test_a_node_that_does_not_answer_keeps_no_run_from_stopping(
    anyio_backend: Any,
    board: Board,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system_module, "STOP_SECONDS", 6.0)  # half of it for `a` to answer
    specs = [actor("a", "one", board), actor("b", "two", board, snapshot_every_updates=1)]
    async with running(anyio_backend, specs, reports=Heard()) as system:
        await told(system, "a", 1)
        await told(system, "b", 2)
        await board.reads("b state 2")
        await told(system, "b", 0)
        assert isinstance(system.reports, Heard)
        await system.reports.reaches("updates", 3)
        await system.ref("b").tell(Hold(gate.path, "blocking"))
        await board.reads("b holds")
    assert "node two does not answer and is killed" in caplog.text
    assert system.final_states == {"a": {"total": 1}, "b": {"total": 2}}
    await board.reads("a stops 1")
    assert (system.undelivered, system.in_doubt) == (0, 1)


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_stops_in_order(anyio_backend: Any, board: Board) -> None:
    with anyio.CancelScope() as scope:
        async with running(anyio_backend, [actor("a", "one", board)]) as system:
            await told(system, "a", 3)
            scope.cancel()
            await anyio.sleep_forever()
    assert system.final_states == {"a": {"total": 3}}
    await board.reads("a stops 3")


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_while_it_starts(anyio_backend: Any, board: Board, gate: Gate) -> None:
    specs = [actor("a", "one", board), actor("b", "two", board, gate_of_start=gate.path)]

    async def run() -> None:
        async with running(anyio_backend, specs):
            pytest.fail("it can't start")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await board.reads("b starting")
        tasks.cancel_scope.cancel()
    await board.reads("a stops 0")


# Circles.


@pytest.mark.anyio
async def test_asking_a_later_actor_of_another_node_in_on_start(anyio_backend: Any, board: Board) -> None:
    specs = [actor("a", "one", board, next="b", ask_next_in_start=True), actor("b", "two", board)]
    with pytest.raises(ActorFailed, match="a waits for b in on_start, but b starts later: put it before a"):
        async with running(anyio_backend, specs, FATAL):
            pytest.fail("it can't start")


@pytest.mark.anyio
async def test_asking_an_earlier_actor_of_another_node_in_on_start(anyio_backend: Any, board: Board) -> None:
    specs = [actor("b", "two", board), actor("a", "one", board, next="b", ask_next_in_start=True)]
    async with running(anyio_backend, specs, FATAL):
        assert await board.reads("a knows") == await board.reads("b starting")


@pytest.mark.anyio
async def test_full_mailboxes_in_a_circle_of_nodes(anyio_backend: Any, board: Board) -> None:
    bounds = MailboxBounds(messages=2)
    specs = [
        actor("a", "one", board, next="b", mailbox=bounds),
        actor("b", "two", board, next="a", mailbox=bounds),
    ]

    async def run() -> None:
        async with running(anyio_backend, specs, FATAL) as system:
            for name in ("a", "b"):
                await system.ref(name).tell(NetworkBackend(100_000))  # so many that both pass at once
            await anyio.sleep_forever()

    with pytest.raises(ActorFailed, match="full mailboxes: these actors wait for each other in a circle: "):
        await run()


# What comes home.


@pytest.mark.anyio
async def test_logs_and_printed_lines_come_home_with_their_names(
    anyio_backend: Any, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actorq.output")
    async with running(anyio_backend, [actor("a", "one", board)]) as system:
        await system.ref("a").tell(Say("good morning"))
        await system.ref("a").ask(Who())
    said = {
        (record.name, record.__dict__["node"], record.__dict__["actor"])
        for record in caplog.records
        if record.getMessage() == "good morning"
    }
    assert said == {("tests.cast", "one", "a"), ("actorq.output", "one", "")}


@pytest.mark.anyio
async def test_reports_come_home(anyio_backend: Any, board: Board) -> None:
    reports = Heard()
    async with running(anyio_backend, [actor("a", "one", board)], reports=reports) as system:
        await told(system, "a", 3, 4)
        await reports.reaches("updates", 2)
    assert reports.gauges["total"] == 7


@pytest.mark.anyio
async def test_states_of_actors_elsewhere_are_taken_and_given_back(anyio_backend: Any, board: Board) -> None:
    specs = [actor("a", "one", board), actor("b", "main", board)]
    async with running(anyio_backend, specs) as system:
        await told(system, "a", 3)
        await told(system, "b", 4)
        states = await system.states()
        await told(system, "a", 2)
    assert states == {"a": {"total": 3}, "b": {"total": 4}}
    assert system.final_states == {"a": {"total": 5}, "b": {"total": 4}}
    async with running(anyio_backend, specs, states=system.final_states) as system:
        assert [await told(system, name, 1) for name in "ab"] == [6, 5]
        await kill(board, "a", 2)
        await board.reads("a starting", 3)
        assert await told(system, "a") == 5, "nothing newer was kept"
