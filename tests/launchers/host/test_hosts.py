"""Nodes that join from other hosts: here by loopback, in real processes, over TLS."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied, ActorFailed, NodeFailed, System
from actorq.launchers.host import host_session as host_session
from actorq.launchers.host import launcher as hosts
from actorq.launchers.host.host_protocol import HEARTBEAT_SECONDS
from actorq.launchers.host.host_session import MISSED_HEARTBEATS
from actorq.launchers.host.join_token import read_join_token
from actorq.topology.address import parse_address
from tests.launchers.actors import Board, Gate, Hold, Identity, Number, Say, WaitAndAnswer, Who, WhoIsNext
from tests.launchers.joined_hosts import Joiner, joining, topology, waiting

pytestmark = pytest.mark.anyio


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    made.close()


@pytest.fixture
def acceptor(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _hosts_may_stand_still(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine doesn't lose a host; the tests of hosts that say nothing are the slow ones."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(host_session, "MISSED_HEARTBEATS", 40)


async def who(system: System, name: str) -> Identity:
    identity: Identity = await system.ref(name).ask(Who())
    return identity


async def gone(pid: int) -> None:
    """Return when this process, which needs not be a child, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await anyio.wait_readable(fd)
    finally:
        os.close(fd)


async def answered_again(system: System, name: str, before: Identity) -> Identity:
    """The answer of the actor's next life in another process; asks fail until then."""
    while True:
        try:
            identity = await who(system, name)
        except ActorDied:
            await anyio.lowlevel.checkpoint()
            continue
        if identity.pid != before.pid:
            return identity


@pytest.mark.parametrize("insecure", [False, True])
async def test_two_hosts_join_and_talk(
    anyio_backend: str, board: Board, tmp_path: Path, insecure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tables = topology(board, hosts=2, insecure=insecure)
    async with AsyncExitStack() as stack:
        async with waiting(anyio_backend, tables, tmp_path) as run:
            assert stat.S_IMODE(run.join_token.stat().st_mode) == 0o600
            assert ("PRIVATE KEY" in run.join_token.read_text()) is not insecure
            assert "waiting for 2 nodes: actorq node --join tcp://127.0.0.1:" in caplog.text
            joiners = [await stack.enter_async_context(joining(run.join_token)) for _ in range(2)]
            async with run.system() as system:
                pids = [(await who(system, f"on_{node}")).pid for node in ("main", "far0", "far1")]
                assert pids[0] == os.getpid()
                assert len({*pids, *(joiner.pid for joiner in joiners)}) == 5
                following = [
                    await system.ref(f"on_{node}").ask(WhoIsNext()) for node in ("main", "far0", "far1")
                ]
                assert [identity.pid for identity in following] == [pids[1], pids[2], pids[0]]
                await system.ref("on_far1").tell(Say("hello from afar"))
                await who(system, "on_far1")
        assert (system.undelivered, system.in_doubt) == (0, 0)
        assert [await joiner.ended() for joiner in joiners] == [0, 0]
        assert not run.join_token.exists()
    far = [record for record in caplog.records if "hello from afar" in record.getMessage()]
    said_by = [(record.name, vars(record)["node"], vars(record)["actor"]) for record in far]
    assert sorted(said_by) == [("actorq.output", "far1", ""), ("tests.cast", "far1", "on_far1")]


async def lose(
    backend: Any,
    board: Board,
    acceptor: Gate,
    folder: Path,
    how: Callable[[Joiner, Identity], None],
    *,
    spare: bool = True,
) -> tuple[Identity, Identity]:
    """Lose the far node over a question; answers who has it before and after, once all is well again."""
    async with AsyncExitStack() as stack:
        async with waiting(backend, topology(board), folder) as run:
            first = heir = await stack.enter_async_context(joining(run.join_token))
            async with run.system() as system:
                before = await who(system, "on_far0")
                if spare:
                    heir = await stack.enter_async_context(joining(run.join_token))
                    await heir.until("waiting for a node")

                async def ask() -> None:
                    with pytest.raises(ActorDied, match="far0"):
                        await system.ref("on_far0").ask(WaitAndAnswer(acceptor.path))

                async with anyio.create_task_group() as asks:
                    asks.start_soon(ask)
                    await board.reads("on_far0 waits")
                    how(first, before)
                after = await answered_again(system, "on_far0", before)
                await system.ref("on_main").ask(WhoIsNext())
                await heir.until(f"process {after.pid}")
        assert await heir.ended() == 0
    return before, after


async def test_a_killed_node_comes_back_where_it_was(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(joiner: Joiner, node: Identity) -> None:
        os.kill(node.pid, signal.SIGKILL)

    await lose(anyio_backend, board, acceptor, tmp_path, kill, spare=False)
    assert "node far0 killed by SIGKILL" in caplog.text


async def test_a_killed_host_is_replaced_by_a_spare(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, _ = await lose(
        anyio_backend, board, acceptor, tmp_path, lambda joiner, node: joiner.send(signal.SIGKILL)
    )
    assert "was lost with its host 127.0.0.1:" in caplog.text
    assert "it has closed the connection" in caplog.text
    await gone(before.pid)


@pytest.mark.slow
async def test_a_stopped_node_is_ended(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(joiner: Joiner, node: Identity) -> None:
        os.kill(node.pid, signal.SIGSTOP)

    await lose(anyio_backend, board, acceptor, tmp_path, stop, spare=False)
    assert "node far0 was stopped from outside (SIGSTOP)" in caplog.text


@pytest.mark.slow
async def test_a_silent_host_is_lost(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    await lose(anyio_backend, board, acceptor, tmp_path, lambda joiner, node: joiner.send(signal.SIGSTOP))
    assert "no heartbeat for 1.5 s" in caplog.text
    assert time.monotonic() - began > MISSED_HEARTBEATS * HEARTBEAT_SECONDS


@pytest.mark.slow
async def test_a_host_that_was_silent_comes_back(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path
) -> None:
    async with (
        waiting(anyio_backend, topology(board), tmp_path) as run,
        joining(run.join_token) as joiner,
        run.system() as system,
    ):
        before = await who(system, "on_far0")
        joiner.send(signal.SIGSTOP)
        with pytest.raises(ActorDied):
            await system.ref("on_far0").ask(WaitAndAnswer(acceptor.path))
        joiner.send(signal.SIGCONT)
        await gone(before.pid)
        after = await answered_again(system, "on_far0", before)
        await joiner.until("joining again")
        await joiner.until(f"process {after.pid}")


@pytest.mark.slow
async def test_a_computing_node_is_not_silent(
    anyio_backend: str, board: Board, acceptor: Gate, tmp_path: Path
) -> None:
    """Neither a node that holds Python's lock for longer than a silent host may live, nor the coordinator."""
    longer = 2 * MISSED_HEARTBEATS * HEARTBEAT_SECONDS
    async with (
        waiting(anyio_backend, topology(board), tmp_path) as run,
        joining(run.join_token),
        run.system() as system,
    ):
        before = await who(system, "on_far0")
        await system.ref("on_far0").tell(Hold(acceptor.path, "computing"))
        await board.reads("on_far0 holds")
        time.sleep(longer / 2)  # noqa: ASYNC251
        await anyio.sleep(longer / 2)
        acceptor.open()
        assert await who(system, "on_far0") == before


async def test_a_host_that_is_interrupted_leaves_its_node_to_the_next(
    anyio_backend: str, board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        AsyncExitStack() as stack,
        waiting(anyio_backend, topology(board), tmp_path) as run,
        joining(run.join_token) as first,
        run.system() as system,
    ):
        before = await who(system, "on_far0")
        first.send(signal.SIGINT)
        assert await first.ended() == 130
        await gone(before.pid)
        second = await stack.enter_async_context(joining(run.join_token))
        after = await answered_again(system, "on_far0", before)
        await system.ref("on_far0").tell(Number(1))
        await second.until(f"process {after.pid}")
    assert "leaves: it was interrupted" in caplog.text
    assert "waiting for node far0: actorq node --join" in caplog.text


async def test_a_run_that_fails_reports_it(anyio_backend: str, board: Board, tmp_path: Path) -> None:
    tables = topology(board)
    tables["actors"]["on_far0"]["config"]["fails_in_start"] = True

    async def fail(stack: AsyncExitStack) -> None:
        async with waiting(anyio_backend, tables, tmp_path) as run:
            joiners.append(await stack.enter_async_context(joining(run.join_token)))
            async with run.system():
                await anyio.sleep_forever()

    joiners = list[Joiner]()
    async with AsyncExitStack() as stack:
        with pytest.raises(ActorFailed, match="'on_far0' crashed in on_start: ValueError: told to fail"):
            await fail(stack)
        assert await joiners[0].ended() == 1
        assert "actorq: the run failed: actor 'on_far0' crashed in on_start" in joiners[0].said


async def test_a_run_that_is_given_up_while_it_waits(
    anyio_backend: str, board: Board, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        with anyio.CancelScope() as scope:
            async with waiting(anyio_backend, topology(board), tmp_path) as run:
                joiner = await stack.enter_async_context(joining(run.join_token))
                await joiner.until("waiting for a node")
                scope.cancel()
                await anyio.sleep_forever()
        assert await joiner.ended() == 0


async def test_an_address_that_cant_be_listened_at(anyio_backend: str, board: Board, tmp_path: Path) -> None:
    with pytest.raises(NodeFailed, match=r"node 'main' can't listen at tcp://192\.0\.2\.1:7070: "):
        async with waiting(anyio_backend, topology(board, address="tcp://192.0.2.1:7070"), tmp_path):
            pass
    with pytest.raises(NodeFailed, match=r"nowhere/join\.secret: can't be written: No such file"):
        async with waiting(anyio_backend, topology(board), tmp_path / "nowhere"):
            pass


async def test_unauthenticated_peers_are_closed_and_counted(
    anyio_backend: str, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waves of connections that say nothing, or nonsense; who has the secret is let in all the same."""
    monkeypatch.setattr(hosts, "AUTHENTICATION_SECONDS", 0.2)

    async def strange(words: bytes) -> None:
        with suppress(OSError, anyio.BrokenResourceError):
            async with await anyio.connect_tcp(*address) as stream:
                with suppress(anyio.BrokenResourceError):
                    await stream.send(words)
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await stream.receive()

    async with waiting(anyio_backend, topology(board), tmp_path) as run:
        address = parse_address(read_join_token(run.join_token).address)
        refused = run.launchers["far0"]
        assert isinstance(refused, hosts.HostLauncher)
        for _ in range(3):
            async with anyio.create_task_group() as wave:
                for number in range(2 * hosts.MAX_UNAUTHENTICATED):
                    wave.start_soon(strange, os.urandom(64) if number % 2 else b"\x16\x03\x01")
        monkeypatch.setattr(
            hosts, "AUTHENTICATION_SECONDS", 20.0
        )  # who has the secret gets the time that it takes
        async with joining(run.join_token), run.system() as system:
            assert (await who(system, "on_far0")).pid != os.getpid()
    assert refused.refused_connections == 3 * 2 * hosts.MAX_UNAUTHENTICATED
