"""Shards in Redis under SIGKILL: of a shard's process, and of the whole run, counted item by item."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from actorq.actors import ActorDied, System
from actorq.replay.ids import shards_of, without_shard
from tests.replay.redis.redis_contents import contents
from tests.roles.replay.redis_shards import RUN, DrawBatch, in_redis, insert, url_of

from .actors import Board
from .nodes import actor, board, running
from .redis_run import CHUNK

__all__ = ["board"]

EXPLORERS = 4


def held(url: str, shards: int) -> dict[tuple[int, int], int]:
    """The number of each transition, by its shard and id."""
    return {
        (shard, first + row): int(number)
        for shard in range(shards)
        for first, chunk in contents(url, f"{RUN}:replay.{shard}").items()
        for row, number in enumerate(chunk.actions)
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
@pytest.mark.anyio
async def test_a_killed_shard_loses_nothing_acknowledged(anyio_backend: Any, board: Board) -> None:
    specs = [*in_redis(node="shard"), actor("on-shard", "shard", board)]
    acknowledged: dict[tuple[int, int], int] = {}
    killed = 0
    async with running(anyio_backend, specs) as system:

        async def explore(explorer: int) -> None:
            for number in range(explorer * 10_000, explorer * 10_000 + 30 * CHUNK, CHUNK):
                try:
                    inserted = await system.ref("replay.0").ask(insert(CHUNK, number))
                except ActorDied:
                    continue  # it may be there
                acknowledged.update({(0, inserted.first_id + i): number + i for i in range(CHUNK)})

        async def kill() -> None:
            nonlocal killed
            for incarnation in (1, 2):
                pid = int(await board.reads("on-shard starting", incarnation))
                await system.ref("replay.0").ask(insert(CHUNK, -CHUNK * incarnation))
                os.kill(pid, signal.SIGKILL)
                killed += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            for explorer in range(EXPLORERS):
                tasks.start_soon(explore, explorer)
        batch: Any = (await system.ref("reader").ask(DrawBatch(64))).batch
        found = held(await url_of(system), 1)
        assert acknowledged.items() <= found.items()
        assert all(
            found[0, i] == action
            for i, action in zip(batch.ids.tolist(), batch.actions.tolist(), strict=True)
        )
    assert killed == 2
    assert len(acknowledged) >= (EXPLORERS * 30 - 2 * EXPLORERS) * CHUNK


@pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
@pytest.mark.anyio
async def test_a_killed_run_that_is_started_again_has_all_that_was_acknowledged(
    anyio_backend: Any, tmp_path: Path
) -> None:
    keep = tmp_path / "kept"
    acknowledged: dict[tuple[int, int], int] = {}
    for incarnation in range(2):
        for shard, first, number in await anyio.to_thread.run_sync(live_and_die, keep, incarnation):
            acknowledged.update({(shard, first + i): number + i for i in range(CHUNK)})
    async with System(in_redis(2, keep=keep, capacity=100_000)) as system:
        found = held(await url_of(system), 2)
        inserted = await system.ref("replay.0").ask(insert(CHUNK, -CHUNK))
        batch = (await system.ref("reader").ask(DrawBatch(64))).batch
    assert acknowledged.items() <= found.items()
    # Of each explorer's one chunk that was under way it isn't known.
    assert len(found) <= len(acknowledged) + 2 * EXPLORERS * CHUNK
    assert len(set(found.values())) == len(found), "nothing is there twice"
    assert inserted.first_id == 1 + max(i for shard, i in found if shard == 0)
    found |= {(0, inserted.first_id + i): i - CHUNK for i in range(CHUNK)}
    names = zip(shards_of(batch.ids).tolist(), without_shard(batch.ids).tolist(), strict=True)
    assert [found[name] for name in names] == batch.actions.tolist()


def live_and_die(keep: Path, incarnation: int) -> list[tuple[int, int, int]]:
    """A run in a process of its own, killed when it has said enough; returns all that it said."""
    begin = incarnation * 100_000_000
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.launchers.redis_run", str(keep), str(EXPLORERS), str(begin)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    lines = [run.stdout.readline() for _ in range(300)]
    run.kill()
    lines += run.stdout.readlines()
    run.wait()
    run.stdout.close()
    said = [line.split() for line in lines if line.endswith("\n")]
    return [(int(shard), int(first), int(number)) for shard, first, number in said]
