"""Death watch between processes: killed nodes, crashed actors, and watchers that are killed themselves."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from actorq.actors import ActorSpec, Group

from .actors import Board, End, NetworkBackend, Number, Who, Worker
from .nodes import actor, board, running

__all__ = ["board"]


class Watcher(Worker):
    others: Group[Number | Who]

    async def on_start(self) -> None:
        await super().on_start()
        for other in self.others:
            self.watch(other)

    async def on_down(self, name: str, incarnation: int) -> None:
        self.note("down", name, incarnation)


def watchers(board: Board, *others: str) -> list[ActorSpec]:
    """One in the run's process, one in another."""
    return [
        actor("here", "main", board, Watcher, others=others),
        actor("there", "watching", board, Watcher, others=others),
    ]


async def kill(board: Board, name: str, incarnation: int = 1) -> None:
    os.kill(int(await board.reads(f"{name} starting", incarnation)), signal.SIGKILL)


@pytest.mark.anyio
async def test_a_lost_node_is_reported_once_for_each_of_its_actors(anyio_backend: Any, board: Board) -> None:
    specs = [*watchers(board, "a", "b"), actor("a", "one", board), actor("b", "one", board)]
    async with running(anyio_backend, specs) as system:
        for incarnation in (0, 1):
            await kill(board, "a", incarnation + 1)
            for watcher in ("here", "there"):
                for name in ("a", "b"):
                    await board.reads(f"{watcher} down {name} {incarnation}")
            await system.ref("b").ask(Who(), retry=True)
    await board.reads("here stops")
    downs = [line for line in board.lines if " down " in line]
    assert len(downs) == 8


@pytest.mark.anyio
async def test_a_crash_in_another_process_is_reported_after_its_messages(
    anyio_backend: Any, board: Board
) -> None:
    specs = [
        actor("w", "one", board, Watcher, others="a"),
        actor("a", "two", board, next="w"),
    ]
    async with running(anyio_backend, specs) as system:
        await system.ref("a").tell(NetworkBackend(3))
        await system.ref("a").tell(End("error"))
        await system.ref("a").tell(NetworkBackend(1))
        await board.reads("w added 0", 2)
    await board.reads("w stops")
    mine = [line for line in board.lines if line.startswith(("w added", "w down"))]
    assert mine == ["w added 0", "w added 1", "w added 2", "w down a 0", "w added 0"]


@pytest.mark.anyio
async def test_a_crash_and_then_the_loss_of_the_node(anyio_backend: Any, board: Board) -> None:
    specs = [*watchers(board, "a"), actor("a", "one", board)]
    async with running(anyio_backend, specs) as system:
        await system.ref("a").tell(End("error"))
        for watcher in ("here", "there"):
            await board.reads(f"{watcher} down a 0")
        await kill(board, "a", 2)
        for watcher in ("here", "there"):
            await board.reads(f"{watcher} down a 1")
        await system.ref("a").ask(Who(), retry=True)
    await board.reads("here stops")
    assert len([line for line in board.lines if " down " in line]) == 4


@pytest.mark.anyio
async def test_a_killed_watcher_learns_which_actors_are_retired(anyio_backend: Any, board: Board) -> None:
    specs = [
        actor("w", "watching", board, Watcher, others=("a", "b", "c")),
        actor("a", "one", board, restart="never"),
        actor("b", "main", board, restart="never"),
        actor("c", "two", board),
    ]
    async with running(anyio_backend, specs) as system:
        await kill(board, "a")
        await system.ref("b").tell(End("error"))
        for name in ("a", "b"):
            await board.reads(f"w down {name} 0")
        await kill(board, "w")
        for name in ("a", "b"):
            await board.reads(f"w down {name} 0", 2)
        await kill(board, "c")
        await board.reads("w down c 0")
    await board.reads("w stops")
    assert len([line for line in board.lines if " down " in line]) == 5
