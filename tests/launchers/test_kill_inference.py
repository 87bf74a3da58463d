"""An inference actor and an explorer whose nodes are killed: another explorer loses nothing."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from actorq.actors import ActorSpec, System
from actorq.replay.chunk import Chunk
from actorq.roles.replay.messages import Insert
from actorq.testing import Record
from tests.actors.world import AT_ONCE
from tests.roles.actors import Inbox, Publish
from tests.roles.inference.asked import CNN, NOISE, assert_alike, initial, topology

from .actors import Board
from .nodes import actor, board, running

__all__ = ["board"]

KILLS = 2


def chunks_of(record: Record[Insert], first: Chunk) -> list[Chunk]:
    """Those of the explorer whose first chunk this is: frames are carried over from one to the next."""
    found = [first]
    for chunk in (insert.chunk for insert in record.entries):
        before = found[-1]
        if chunk is not before and any((chunk.frames[0] == frame).all() for frame in before.frames):
            found.append(chunk)
    return found


async def undisturbed(chunks: int) -> list[Chunk]:
    """What an explorer of that name lives through with weights of its own."""
    record: Record[Insert] = Record()
    async with System(topology(record, NOISE, CNN, asking=False), AT_ONCE) as system:
        await system.ref("learner").tell(Publish([initial(NOISE, CNN)]))
        await record.reaches(chunks)
    return [insert.chunk for insert in record.entries]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.anyio
async def test_kills_of_the_inference_actor_and_of_an_explorer(
    anyio_backend: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    record: Record[Insert] = Record()
    monkeypatch.setattr(Inbox, "record", record, raising=False)
    nodes = {"inference": "device", "explorer.1": "other"}
    specs: list[ActorSpec] = [
        *(
            replace(each, node=nodes.get(each.name, "main"))
            for each in topology(None, NOISE, CNN, explorers=2)
        ),
        *(actor(f"on-{node}", node, board) for node in nodes.values()),
    ]
    async with running(anyio_backend, specs, timeout=100) as system:
        await system.ref("learner").tell(Publish([initial(NOISE, CNN)]))
        for incarnation in range(1, KILLS + 1):
            for node in nodes.values():
                pid = int(await board.reads(f"on-{node} starting", incarnation))
                await record.reaches(len(record.entries) + 20)
                os.kill(pid, signal.SIGKILL)
        for node in nodes.values():
            await board.reads(f"on-{node} starting", KILLS + 1)
        await record.reaches(len(record.entries) + 20)
        restarts = {each.name: each.restarts for each in system.statistics().actors}
    assert restarts["explorer.0"] == 0
    assert restarts["inference"] == restarts["explorer.1"] == KILLS
    expected = await undisturbed(20)
    mine = next(
        each.chunk for each in record.entries if (each.chunk.frames[0] == expected[0].frames[0]).all()
    )
    found = chunks_of(record, mine)
    assert len(found) >= len(expected)
    for ours, theirs in zip(found, expected, strict=False):
        assert_alike(ours, theirs)
