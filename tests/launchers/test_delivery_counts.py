"""Delivery with fault injection: outcomes of numbered messages while nodes are killed, connections cut."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import DeadLetter, MailboxBounds, RestartLimits, System
from actorq.actors.runtime import system as system_module
from actorq.actors.supervision import supervisor as supervision
from tests.actors.world import spec

from .actors import Board
from .delivery_counts import Accountant, Books, Cut, cut_connections, entry
from .nodes import Heard, board, running

__all__ = ["board"]

NODES = ("one", "two", "three")


class Outside:
    """The application, which sends to all as well."""

    def __init__(self, system: System, books: Path) -> None:
        self._refs = {name: system.ref(name) for name in NODES}
        self._book = (books / "outside").open("w", buffering=1)
        told = system._local._dead_letter

        def dead_letter(ended: DeadLetter) -> None:  # a ref tells nobody
            told(ended)
            if ended.sender == "outside" and not isinstance(ended.message, Cut):
                self.write(ended.outcome.name, ended.message.key, ended.target)  # type: ignore[attr-defined]

        system._local._dead_letter = dead_letter  # type: ignore[method-assign, assignment]

    def write(self, *words: object) -> None:
        print(*words, file=self._book)

    async def send(self) -> None:
        number = 0
        while True:
            for name, ref in self._refs.items():
                number += 1
                message = entry("outside", 0, number)
                await ref.tell(message)
                self.write("sent", message.key, name)

    def close(self) -> None:
        self.write("lived", "outside", 0)
        self._book.close()


class FaultInjector:
    """Kills nodes and cuts connections, at moments drawn by the seed."""

    def __init__(self, system: System, board: Board, reports: Heard, seed: int) -> None:
        self._system, self._board, self._reports = system, board, reports
        self._random = random.Random(seed)
        self._incarnations = dict.fromkeys(NODES, 1)

    async def inject(self, kills: int, cuts: int) -> None:
        events = [self._kill] * kills + [self._cut] * cuts
        self._random.shuffle(events)
        for event in events:
            await self._let_pass(self._random.randrange(30))
            await event()
        for node, incarnation in self._incarnations.items():
            await self._board.reads(f"{node} starting", incarnation)
        await self._let_pass(100)

    async def _let_pass(self, count: int) -> None:
        await self._reports.reaches("handled", self._reports.counts["handled"] + count)

    async def _kill(self) -> None:
        node = self._random.choice(NODES)
        pid = int(await self._board.reads(f"{node} starting", self._incarnations[node]))
        self._incarnations[node] += 1
        os.kill(pid, signal.SIGKILL)

    async def _cut(self) -> None:
        where = self._random.choice([*NODES, "main"])
        if where == "main":
            cut_connections()
        else:
            await self._system.ref(where).tell(Cut())


FIRES = [
    pytest.param(5, 10, id="a little"),
    pytest.param(50, 100, id="much", marks=[pytest.mark.slow, pytest.mark.timeout(240)]),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("kills", "cuts"), FIRES)
async def test_accounting_under_fire(
    anyio_backend: Any,
    board: Board,
    tmp_path: Path,
    kills: int,
    cuts: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    often = partial(RestartLimits, max_restarts=kills, backoff_seconds=0.0)
    monkeypatch.setattr(supervision, "RestartLimits", often)
    monkeypatch.setattr(system_module, "DRAIN_SECONDS", 20.0)  # the books are balanced once all is drained
    delivery_log, folder, reports = tmp_path / "delivery_log", tmp_path / "books", Heard()
    folder.mkdir()
    config = Accountant.Config(board=board.path, delivery_log=str(delivery_log), books=str(folder))
    specs = [
        spec(
            name,
            Accountant,
            {"others": tuple(node for node in NODES if node != name)},
            config,
            node=name,
            mailbox=MailboxBounds(messages=20),
        )
        for name in NODES
    ]
    async with running(anyio_backend, specs, reports=reports, timeout=200) as system:
        outside = Outside(system, folder)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outside.send)
            await FaultInjector(system, board, reports, seed=kills).inject(kills, cuts)
            tasks.cancel_scope.cancel()
    outside.close()
    assert "not drained" not in caplog.text
    books = Books()
    books.read(delivery_log, folder)
    check(books, kills)
    restarts = sum(actor.restarts for actor in system.statistics().actors)
    assert restarts == kills, "each has hit a process that lived"


def check(books: Books, kills: int) -> None:
    begun = {key for key, _ in books.begun}
    undelivered = {key for key, outcome in books.told.items() if outcome == "UNDELIVERED"}
    in_doubt = {key for key, outcome in books.told.items() if outcome == "IN_DOUBT"}
    assert undelivered | in_doubt == books.told.keys()
    assert len(books.lived) == len(NODES) + 1

    assert len(begun) == len(books.begun), "each number stands there at most once"
    sent = books.of_the_living(books.sent)
    assert sent - begun <= books.told.keys(), "each absent one is a dead letter of its sender"
    assert not undelivered & begun, "none that was told undelivered stands there"
    assert len(in_doubt) <= kills, "in doubt are at most those that were at hand"
    assert books.of_the_living(begun - books.done) <= in_doubt, "what was not ended is in doubt"

    order: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for key, receiver in books.begun:
        sender, _, number = key.rpartition(" ")
        order[sender, receiver].append(int(number))
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert sum(map(len, order.values())) > 20 * kills
