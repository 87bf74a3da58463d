"""Contents of Redis, read by a test without becoming the shard's owner."""

from __future__ import annotations

import redis

from actorq.replay.chunk import Chunk
from actorq.replay.redis.format import ChunkRecord, Keys, decode_rows


def contents(url: str, shard: str) -> dict[int, Chunk]:
    """The chunks that the shard RUN:SHARD holds, whole, by the id of their first transition."""
    keys, found = Keys(shard), dict[int, Chunk]()
    with redis.Redis.from_url(url) as client:
        for packed in client.lrange(keys.list, 0, -1):
            record = ChunkRecord.unpack(packed)
            rows, frames = (client.get(key) for key in keys.values(record.name))
            assert isinstance(rows, bytes)
            assert isinstance(frames, bytes)
            found[record.first] = decode_rows(rows).chunk(frames)
    return found


def numbers(url: str, shard: str) -> list[int]:
    """The actions of all its transitions, in order of their ids."""
    return [int(action) for chunk in contents(url, shard).values() for action in chunk.actions]
