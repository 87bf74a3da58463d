"""`python -m tests.launchers.redis_run KEEP EXPLORERS BEGIN`: a run that inserts until it is killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from actorq.actors import System
from tests.roles.replay.redis_shards import in_redis, insert

CHUNK = 5


async def main(keep: Path, explorers: int, begin: int) -> None:
    """Each line is a shard, the id there of a chunk's first transition, and its number."""
    async with System(in_redis(2, keep=keep, capacity=100_000)) as system, anyio.create_task_group() as tasks:

        async def explore(explorer: int) -> None:
            number = begin + explorer * 1_000_000
            while True:
                for shard in range(2):
                    inserted = await system.ref(f"replay.{shard}").ask(insert(CHUNK, number))
                    os.write(1, f"{shard} {inserted.first_id} {number}\n".encode())
                    number += CHUNK

        for explorer in range(explorers):
            tasks.start_soon(explore, explorer)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
