"""Systems with node processes, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorSpec, GroupSpec, Membership, System
from actorq.actors.runtime.reports import ReportTotals
from actorq.launchers.launchers import LaunchersByNode
from actorq.launchers.node_setup import RunSetup
from actorq.launchers.process.launcher import ProcessLauncher
from actorq.launchers.socket_folder import private_folder
from actorq_nng import NngTransport
from tests.actors.world import AT_ONCE, spec

from .actors import Board, Gate, Worker

TIMEOUT_SECONDS = 100
"""Until a test fails that waits in vain; the processes end in order then."""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.close()


class Heard(ReportTotals):
    """Reports, of which a test can wait for the counts."""

    def __init__(self) -> None:
        super().__init__()
        self._news = anyio.Event()

    def count(self, actor: str, name: str, amount: int) -> None:
        super().count(actor, name, amount)
        self._news.set()
        self._news = anyio.Event()

    async def reaches(self, name: str, total: int) -> None:
        while self.counts.get(name, 0) < total:
            await self._news.wait()


def actor(name: str, node: str, board: Board, cls: type[Worker] = Worker, **given: Any) -> ActorSpec:
    """A worker on a node; what its Config doesn't know is the spec's or a port."""
    config = {key: given.pop(key) for key in list(given) if key in cls.Config.__struct_fields__}
    rest = {key: given.pop(key) for key in list(given) if key in ActorSpec.__dataclass_fields__}
    return spec(name, cls, given, cls.Config(board=board.path, **config), node=node, **rest)


@asynccontextmanager
async def running(
    backend: Any,
    specs: Sequence[ActorSpec],
    groups: Sequence[GroupSpec] = AT_ONCE,
    timeout: float = TIMEOUT_SECONDS,
    **given: Any,
) -> AsyncIterator[System]:
    """The nodes but `main` are processes; all of them are gone at the end."""
    elsewhere = [node for node in dict.fromkeys(each.node for each in specs) if node != "main"]
    with anyio.fail_after(timeout), private_folder() as folder:
        membership = Membership(folder=folder)
        run = RunSetup(
            specs=tuple(specs),
            transport=NngTransport,
            membership=membership,
            backend=backend,
            local_nodes=len(elsewhere),
        )
        async with (
            ProcessLauncher(run, ()) as processes,
            System(
                specs,
                groups,
                transport=NngTransport(),
                membership=membership,
                elsewhere=elsewhere,
                launcher=LaunchersByNode(run, dict.fromkeys(elsewhere, processes)),
                direct=True,
                **given,
            ) as system,
        ):
            yield system
