"""Unauthenticated and malicious peers at the sockets of a running system: each is counted and refused, and
the system keeps working.
"""

from __future__ import annotations

import gc
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import MailboxBounds, Membership, NodeHandle, Peer, System, TransportStatistics
from actorq.actors.runtime import system
from actorq.actors.wire.link_schema import LinkSchema
from actorq.actors.wire.session import handshake as proof
from actorq.actors.wire.session import session as channel
from actorq.actors.wire.session.frame_header import PREFIX_BYTES, Kind
from actorq.actors.wire.tls import Tls
from actorq.launchers.host.certificates import make_certificates
from actorq.launchers.node_setup import RunSetup
from actorq.launchers.process.launcher import ProcessLauncher
from actorq.launchers.socket_folder import private_folder
from actorq_nng import NngTransport
from tests.actors.world import AT_ONCE, spec

from .actors import Board
from .misbehaving_node import NAME, CorruptFrames, MaliciousNode
from .nodes import Heard, board
from .tellers import MaliciousPeer, Numbered, Teller
from .unauthenticated_peers import Flood, FloodResult, flood_with

__all__ = ["board"]

pytestmark = pytest.mark.anyio

FLAT_BYTES = 40 << 20
"""Growth allowed after thousands of unauthenticated peers: caches, and what the allocator keeps."""
FEW_FILES = 8
"""Additional open files allowed at the end: nng closes connections in threads of its own, later."""


class OnTheNetwork(NngTransport):
    def __init__(self) -> None:
        super().__init__(ipc=False)


@dataclass
class AttackedSystem:
    """A system of two nodes that exchange numbers all the time; a third, malicious node is the test."""

    system: System
    reports: Heard
    membership: Membership
    malicious: MaliciousNode
    scheme: str
    overheard: list[bytes]

    @property
    def nodes(self) -> list[Peer]:
        handle = self.system._remote["far"].handle
        assert handle is not None
        return [*self.system._local.peers(), handle.peer]

    def address(self, node: Peer) -> str:
        return next(each for each in node.addresses if each.startswith(f"{self.scheme}://"))

    def counted(self, node: Peer) -> TransportStatistics:
        if node.name == "main":
            return self.system._local.transport.statistics()
        return self.system._remote[node.name].traffic

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, checked after each handled message."""
        while not condition():
            await self.handles(1)

    async def handles(self, messages: int = 200) -> None:
        await self.reports.reaches("handled", self.reports.counts["handled"] + messages)

    async def flood_with(self, what: Any, count: int, **more: Any) -> list[tuple[Peer, FloodResult]]:
        """Flood all nodes at once."""
        tls = self.membership.tls
        texts = (tls.certificate, tls.key, tls.authority) if tls is not None else None
        given = {
            "hello": self.overheard[0],
            "max_bytes": self.system._local.membership.max_frame_bytes + PREFIX_BYTES,
            "tls": texts,
            **more,
        }
        tolls: list[tuple[Peer, FloodResult]] = []

        async def flood(node: Peer) -> None:
            result = await flood_with(Flood(address=self.address(node), what=what, count=count, **given))
            tolls.append((node, result))

        async with anyio.create_task_group() as tasks:
            for node in self.nodes:
                tasks.start_soon(flood, node)
        return tolls


@dataclass
class Size:
    """Memory and open files of a process."""

    bytes: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Size:
        gc.collect()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGESIZE"), open_files(pid))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class _Launcher:
    def __init__(self, processes: ProcessLauncher, malicious: MaliciousNode) -> None:
        self._processes = processes
        self._traitor = malicious

    async def launch(self, node: str, incarnation: int) -> NodeHandle:
        if node != NAME:
            return await self._processes.launch(self._processes.run.node(node, incarnation))
        self._traitor.launched(incarnation)
        return self._traitor


@pytest.fixture(autouse=True)
def _time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough to handle everything that was sent, on a busy machine too."""
    monkeypatch.setattr(system, "DRAIN_SECONDS", 20.0)


@pytest.fixture
def overheard(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hellos that this process has sent."""
    heard: list[bytes] = []
    seal = proof.seal_hello

    def seal_hello(*given: Any) -> bytes:
        heard.append(seal(*given))
        return heard[-1]

    monkeypatch.setattr(channel, "seal_hello", seal_hello)
    return heard


@asynccontextmanager
async def attacked(
    backend: Any, scheme: str, board: Board, overheard: list[bytes], timeout: float
) -> AsyncIterator[AttackedSystem]:
    config = Teller.Config(board=board.path)
    specs = [
        spec("here", Teller, {"other": "there"}, config, mailbox=MailboxBounds(messages=20)),
        spec("there", Teller, {"other": "here"}, config, mailbox=MailboxBounds(messages=20), node="far"),
        spec("others", MaliciousPeer, {"others": ("here", "there")}, node=NAME),
    ]
    reports = Heard()
    transport = NngTransport if scheme == "ipc" else OnTheNetwork
    with anyio.fail_after(timeout), private_folder() as folder:
        membership = Membership(
            folder=folder,
            addresses=() if scheme == "ipc" else (f"{scheme}://127.0.0.1:0",),
            tls=make_certificates() if scheme == "tls+tcp" else None,
        )
        malicious = MaliciousNode({each.name: each for each in specs}, membership, scheme)
        run = RunSetup(
            specs=tuple(specs), transport=transport, membership=membership, backend=backend, local_nodes=1
        )
        processes = ProcessLauncher(run, ())
        async with anyio.create_task_group() as tasks, processes:
            await tasks.start(malicious.listen)
            async with System(
                specs,
                AT_ONCE,
                transport=transport(),
                membership=membership,
                elsewhere=["far", NAME],
                launcher=_Launcher(processes, malicious),
                reports=reports,
                direct=True,
            ) as system:
                made = AttackedSystem(system, reports, membership, malicious, scheme, overheard)
                await made.handles()
                yield made
                await made.handles()
                assert system.statistics().dead_letters == 0
                assert [actor.restarts + actor.crashes for actor in system.statistics().actors] == [0] * 3
            tasks.cancel_scope.cancel()
    there, here = (await board.reads("there")).split(), (await board.reads("here")).split()
    assert (there[0], here[0]) == (here[1], there[1]), "all numbers that were sent have been handled"


@asynccontextmanager
async def flat(attacked: AttackedSystem) -> AsyncIterator[None]:
    """Assert that no process grows meanwhile, in memory or open files."""
    before = {node.name: Size.of(node.pid) for node in attacked.nodes}
    yield
    await attacked.handles()
    for node in attacked.nodes:
        after = Size.of(node.pid)
        assert after.bytes < before[node.name].bytes + FLAT_BYTES
        few = before[node.name].files + FEW_FILES
        await attacked.until(lambda pid=node.pid, few=few: open_files(pid) <= few)  # type: ignore[misc]


def cases(few: int, few_over_tls: int, many: int, many_over_tls: int) -> pytest.MarkDecorator:
    """Back end, scheme and connections to each of the two nodes; either scheme on one back end is quick."""
    other = pytest.mark.slow
    flood = [pytest.mark.slow, pytest.mark.timeout(1200)]
    return pytest.mark.parametrize(
        ("anyio_backend", "scheme", "count"),
        [
            pytest.param("asyncio", "ipc", few, id="asyncio-ipc"),
            pytest.param("trio", "ipc", few, id="trio-ipc", marks=other),
            pytest.param("asyncio", "tls+tcp", few_over_tls, id="asyncio-tls", marks=other),
            pytest.param("trio", "tls+tcp", few_over_tls, id="trio-tls"),
            *(
                pytest.param(backend, scheme, count, id=f"{backend}-many-{name}", marks=flood)
                for backend in ("asyncio", "trio")
                for scheme, count, name in (
                    ("ipc", many, "ipc"),
                    ("tcp", many, "tcp"),
                    ("tls+tcp", many_over_tls, "tls"),
                )
            ),
        ],
    )


@cases(80, 70, 10_000, 10_000)
async def test_silent_connections(
    anyio_backend: Any, board: Board, overheard: list[bytes], scheme: str, count: int
) -> None:
    async with attacked(anyio_backend, scheme, board, overheard, 1000) as here:
        await here.flood_with("silent", 20, at_a_time=200)
        async with flat(here):
            await here.flood_with("silent", count, at_a_time=200)
            for node in here.nodes:
                await here.until(lambda node=node: here.counted(node).without_hello == count + 20)  # type: ignore[misc]


@cases(300, 70, 100_000, 20_000)
async def test_broken_frames_without_a_hello(
    anyio_backend: Any, board: Board, overheard: list[bytes], scheme: str, count: int
) -> None:
    async with attacked(anyio_backend, scheme, board, overheard, 1000) as here:
        await here.flood_with("frames", 20)
        before = {node.name: here.counted(node) for node in here.nodes}
        async with flat(here):
            for node, result in await here.flood_with("frames", count, seed=1):
                assert result.sent > result.silent > count // 5
                await here.until(lambda node=node: refused(here.counted(node)) == count + 20)  # type: ignore[misc]
                # On a loop that was late by a second, some hellos missed their time limit.
                unauthenticated = here.counted(node).unauthenticated - before[node.name].unauthenticated
                assert result.sent // 2 < unauthenticated <= result.sent + 20


def refused(counted: TransportStatistics) -> int:
    assert (counted.mismatched, counted.early, counted.bad_frames) == (0, 0, 0)
    return counted.refused


async def test_a_replayed_hello(anyio_backend: Any, board: Board, overheard: list[bytes]) -> None:
    async with attacked(anyio_backend, "ipc", board, overheard, 100) as here:
        for hello in overheard:
            await here.flood_with("replay", 10, hello=hello)
        expected = 10 * len(overheard)
        for node in here.nodes:
            # On a busy machine a hello may miss its time limit, and is refused for that.
            await here.until(lambda node=node: refused(here.counted(node)) >= expected)  # type: ignore[misc]
            assert refused(here.counted(node)) == expected
            assert here.counted(node).unauthenticated > 0


async def test_a_certificate_of_another_run(anyio_backend: Any, board: Board, overheard: list[bytes]) -> None:
    theirs = make_certificates()
    async with attacked(anyio_backend, "tls+tcp", board, overheard, 100) as here:
        ours = here.membership.tls
        assert isinstance(ours, Tls)
        await here.flood_with("silent", 50, tls=(theirs.certificate, theirs.key, ours.authority))
        for node in here.nodes:
            await here.until(lambda node=node: here.counted(node).unauthenticated >= 1)  # type: ignore[misc]


async def test_connections_without_nngs_protocol(
    anyio_backend: Any, board: Board, overheard: list[bytes]
) -> None:
    async with attacked(anyio_backend, "tls+tcp", board, overheard, 100) as here, flat(here):
        await here.flood_with("no_protocol", 80, at_a_time=80)
        for node in here.nodes:
            await here.until(lambda node=node: here.counted(node).without_hello == 80)  # type: ignore[misc]


@cases(150, 50, 50_000, 5_000)
async def test_broken_frames_after_a_hello(
    anyio_backend: Any, board: Board, overheard: list[bytes], scheme: str, count: int
) -> None:
    async with attacked(anyio_backend, scheme, board, overheard, 1000) as here:
        specs = here.system._specs
        for node in here.nodes:
            await here.malicious.connect(node.name)
        async with flat(here):
            for node in here.nodes:
                link_schema = LinkSchema(specs, NAME, node.name, here.malicious.peer.incarnation)
                corrupt = CorruptFrames(link_schema, Numbered(1), chance := random.Random(count))
                for _ in range(count):
                    kind = chance.choice([*Kind])
                    await here.malicious.send(node.name, kind, lambda ticket: corrupt.frame(kind, ticket))  # noqa: B023
                await here.until(lambda node=node: here.counted(node).bad_frames == count + 1)  # type: ignore[misc]
                assert here.counted(node).refused == count + 1
