"""Groups of a tree on nodes that are killed: the rest goes on, and who was killed comes back."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from actorq.testing import Record
from tests.roles.tree import Noting, learners

from .cast import Board
from .nodes import actor, board, running

__all__ = ["board"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("anyio_backend", "killed"),
    [("trio", "edge1"), pytest.param("asyncio", "root", marks=pytest.mark.slow)],
)
@pytest.mark.anyio
async def test_a_node_is_killed(
    anyio_backend: Any, killed: str, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    meetings: Record[tuple[int, ...]] = Record()
    monkeypatch.setattr(Noting, "meetings", meetings, raising=False)
    nodes = {
        "spring.0": "main",
        "learner.0": "main",
        "spring.1": "edge1",
        "learner.1": "edge1",
        "root": "main",
    }
    specs = [replace(each, node=nodes[each.name]) for each in learners(2, 20, root=Noting)]
    specs.append(actor("on-edge1", "edge1", board))
    async with running(anyio_backend, specs, patience=100):
        await meetings.has((0, 1))
        os.kill(int(await board.reads("on-edge1 starting")), signal.SIGKILL)
        before = len(meetings.entries)

        def alone_and_together_again() -> bool:
            since = meetings.entries[before:]
            return (0,) in since and (0, 1) in since[since.index((0,)) :]

        await meetings._until(alone_and_together_again)
