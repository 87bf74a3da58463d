"""Reading transitions straight from Redis, where shards have located them. Blocks: for a thread at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Transitions

from .chunk_cache import ChunkCache
from .config import Place
from .connection import Command, RedisConnection, RedisDownError
from .format import Keys, Rows, decode_rows
from .row_cache import RowCache

SMALL_BYTES = 64 * 1024
"""Chunks whose frames take no more are read as a whole, and kept."""


class MissingError(Exception):
    """Chunks that were located are not there any more."""

    def __init__(self, names: Sequence[int]) -> None:
        super().__init__(f"{len(names)} chunks are not in Redis any more")
        self.names = frozenset(names)


class ReadPart(NamedTuple):
    """What is wanted from one shard."""

    place: Place
    chunks: NDArray[np.int64]
    """[B] names."""
    rows: NDArray[np.int32]
    """[B] which transition of its chunk each is."""


class RedisReader:
    """Reads what is wanted, and keeps what may be wanted again: chunks never change.

    Small chunks are kept as a whole. Of large ones, such as those of pictures, all but the frames is kept,
    and only the frames are read that make up the states wanted.
    """

    def __init__(self) -> None:
        self._at: tuple[str, str | None] | None = None
        self._connection: RedisConnection | None = None
        self._cache: ChunkCache | RowCache | None = None

    def in_progress(self, parts: Sequence[ReadPart]) -> Transitions | None:
        """What is wanted, [sum of B], if all of it is kept here: this never blocks."""
        if not isinstance(self._cache, ChunkCache):
            return None
        return self._cache.gather(*_joined(parts))

    def read(self, parts: Sequence[ReadPart]) -> Transitions:
        """What is wanted, of all parts in order: [sum of B].

        Raises MissingError, and what `RedisConnection.execute` raises.
        """
        names, rows = _joined(parts)
        reading = _Reading(self._connect(parts), parts)
        if self._cache is None:
            self._cache = _make_cache(reading.rows(names[:1].tolist())[0], parts[0].place.cache_mb)
        return self._cache.read(names, rows, reading)

    def close(self) -> None:
        """Let go of all connections."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._at = None

    def _connect(self, parts: Sequence[ReadPart]) -> RedisConnection:
        places = {(part.place.url, part.place.password_env) for part in parts}
        if len(places) > 1:
            raise RedisDownError("the shards don't agree yet on where Redis is")
        (at,) = places
        if self._connection is None or at != self._at:
            self.close()
            self._at, self._connection = at, RedisConnection(*at)
        return self._connection


class _Reading:
    """What caches read by: chunks' names alone, whichever shard they are of."""

    def __init__(self, connection: RedisConnection, parts: Sequence[ReadPart]) -> None:
        self._connection = connection
        self._keys = {
            name: keys
            for part, keys in ((part, Keys(part.place.shard)) for part in parts)
            for name in part.chunks.tolist()
        }

    def rows(self, names: Sequence[int]) -> list[Rows]:
        return [
            decode_rows(value)
            for value in self._values(names, [("GET", self._keys[name].rows(name)) for name in names])
        ]

    def frames(self, names: Sequence[int]) -> list[bytes]:
        return self._values(names, [("GET", self._keys[name].frames(name)) for name in names])

    def whole(self, names: Sequence[int]) -> list[tuple[Rows, bytes]]:
        """Rows and frames, with one round trip."""
        commands = [("GET", key) for name in names for key in self._keys[name].values(name)]
        values = iter(self._values([name for name in names for _ in range(2)], commands))
        return [(decode_rows(rows), frames) for rows, frames in zip(values, values, strict=True)]

    def spans(self, spans: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Of each chunk's frames the bytes from ... to ...: (name, begin, end)."""
        commands = [("GETRANGE", self._keys[name].frames(name), begin, end - 1) for name, begin, end in spans]
        return self._values([name for name, _, _ in spans], commands)

    def _values(self, names: Sequence[int], commands: Sequence[Command]) -> list[bytes]:
        values = self._connection.pipeline(commands)
        missing = [name for name, value in zip(names, values, strict=True) if not value]
        if missing:
            raise MissingError(missing)
        return values


def _make_cache(rows: Rows, cache_mb: int) -> ChunkCache | RowCache:
    small = rows.frames * rows.layout.frame_bytes <= SMALL_BYTES
    return ChunkCache(cache_mb * 2**20) if small else RowCache(cache_mb * 2**20)


def _joined(parts: Sequence[ReadPart]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    if len(parts) == 1:
        return parts[0].chunks, parts[0].rows
    return (
        np.concatenate([part.chunks for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )
