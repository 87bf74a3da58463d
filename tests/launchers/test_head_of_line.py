"""Head-of-line blocking: an actor that handles nothing delays no other, and costs bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorStatistics, ChannelStatistics, MailboxBounds, System

from .actors import Board, Gate, NetworkBackend, PassLoads, Wait, Who, WhoIsNext
from .nodes import actor, board, gate, running

__all__ = ["board", "gate"]

NUMBERS = 1 << 14
LOAD = 8 * NUMBERS
"""Bytes."""
BOUNDS = MailboxBounds(messages=1000, bytes=32 * LOAD)
LOADS = 1000
"""128 MB from each flood; 4 MB may wait."""
MEGABYTE = 1 << 20


def resident(pid: int) -> int:
    """Bytes of memory that the process uses, shared memory included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def reading(system: System, name: str) -> ActorStatistics:
    return next(each for each in system.statistics().actors if each.name == name)


def channel(system: System, name: str) -> ChannelStatistics:
    (only,) = reading(system, name).channels
    return only


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["one", "main"])
async def test_an_actor_that_handles_nothing_delays_no_other(
    anyio_backend: Any, board: Board, gate: Gate, place: str
) -> None:
    """`place`: of the other node; messages and replies go to and from `two` in both directions."""
    specs = [
        actor("blocked1", place, board, mailbox=BOUNDS),
        actor("quick1", place, board),
        actor("blocked2", "two", board, mailbox=BOUNDS),
        actor("quick2", "two", board),
        actor("flood1", place, board, next="blocked2"),
        actor("flood2", "two", board, next="blocked1"),
        actor("talker1", place, board, next="quick2"),
        actor("talker2", "two", board, next="quick1"),
    ]
    async with running(anyio_backend, specs) as system:
        pids = {(await system.ref(name).ask(Who())).pid for name in ("quick1", "quick2")}
        before = {pid: resident(pid) for pid in pids}
        for number in "12":
            await system.ref(f"blocked{number}").tell(Wait(gate.path))
            await board.reads(f"blocked{number} waits")
        for number in "12":
            await system.ref(f"flood{number}").tell(PassLoads(LOADS, NUMBERS))
        await talk(system, board, 1)
        flooded = {pid: resident(pid) for pid in pids}
        await talk(system, board, 2)
        for pid in pids:
            assert flooded[pid] - before[pid] < 64 * MEGABYTE
            assert resident(pid) - flooded[pid] < 16 * MEGABYTE
        if place == "main":
            flood, blocked = channel(system, "flood1"), reading(system, "blocked1").mailbox
            assert flood.waiting == 1
            for size in (flood.outstanding_bytes, blocked.unread_bytes):
                assert BOUNDS.bytes - 2 * LOAD < size <= BOUNDS.bytes
            assert flood.outstanding <= 32
            assert blocked.unread <= 32
        gate.open()
        for number in "12":
            await board.reads(f"flood{number} passed {LOADS * NUMBERS}")
        assert system.statistics().dead_letters == 0


async def talk(system: System, board: Board, times: int) -> None:
    """Tells and asks between those that are not blocked, at once in both directions."""

    async def ask(number: str) -> None:
        for _ in range(100):
            await system.ref(f"talker{number}").ask(WhoIsNext())

    async with anyio.create_task_group() as tasks:
        for number in "12":
            tasks.start_soon(ask, number)
            await system.ref(f"talker{number}").tell(NetworkBackend(100))
    for number in "12":
        await board.reads(f"quick{number} added 99", times)
