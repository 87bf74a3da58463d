"""Redis reader: reads sampled transitions directly from Redis. Blocks; for one thread at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actorq.replay.chunk import Sample

from .chunk_cache import ChunkCache
from .connection import Command, RedisConnection, RedisDownError
from .format import Keys, Rows, decode_rows
from .row_cache import RowCache
from .sample_refs import SampleRefs

SMALL_BYTES = 64 * 1024
"""Chunks whose frames are at most this large are read and cached whole."""


class MissingError(Exception):
    """Raised for referenced chunks that are no longer in Redis; ``names`` lists them."""

    def __init__(self, names: Sequence[int]) -> None:
        super().__init__(f"{len(names)} chunks are no longer in Redis")
        self.names = frozenset(names)


class RedisReader:
    """Reads the transitions of `SampleRefs`, and caches what may be read again: chunks never change.

    Small chunks are cached whole. Of large ones, such as those of images, everything but the frames is
    cached, and only the frames of the sampled states are read.
    """

    def __init__(self) -> None:
        self._at: tuple[str, str | None] | None = None
        self._connection: RedisConnection | None = None
        self._cache: ChunkCache | RowCache | None = None

    def cached(self, refs: Sequence[SampleRefs]) -> Sample | None:
        """The transitions of all ``refs`` in order, [sum of B], if all are in the cache; otherwise None.
        Never blocks.
        """
        if not isinstance(self._cache, ChunkCache):
            return None
        return self._cache.gather(_joined(refs))

    def read(self, refs: Sequence[SampleRefs]) -> Sample:
        """The transitions of all ``refs`` (one for each shard) in order: [sum of B].

        Raises MissingError, and what `RedisConnection.execute` raises.
        """
        joined = _joined(refs)
        reading = _Reading(self._connect(refs), refs)
        if self._cache is None:
            first = reading.rows(joined.chunks[:1].tolist())[0]
            self._cache = _make_cache(first, joined.place.cache_mb)
        return self._cache.read(joined, reading)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._at = None

    def _connect(self, refs: Sequence[SampleRefs]) -> RedisConnection:
        places = {(each.place.url, each.place.password_env) for each in refs}
        if len(places) > 1:
            raise RedisDownError("the shards don't agree yet on the address of Redis")
        (at,) = places
        if self._connection is None or at != self._at:
            self.close()
            self._at, self._connection = at, RedisConnection(*at)
        return self._connection


class _Reading:
    """Reads the chunks of one batch by name; finds the shard, and so the key, of each name."""

    def __init__(self, connection: RedisConnection, refs: Sequence[SampleRefs]) -> None:
        self._connection = connection
        self._keys = {
            name: keys
            for each, keys in ((each, Keys(each.place.shard)) for each in refs)
            for name in each.chunks.tolist()
        }

    def rows(self, names: Sequence[int]) -> list[Rows]:
        return [
            decode_rows(value)
            for value in self._values(names, [("GET", self._keys[name].rows(name)) for name in names])
        ]

    def frames(self, names: Sequence[int]) -> list[bytes]:
        return self._values(names, [("GET", self._keys[name].frames(name)) for name in names])

    def whole(self, names: Sequence[int]) -> list[tuple[Rows, bytes]]:
        """Rows and frames of each chunk, in one round trip."""
        commands = [("GET", key) for name in names for key in self._keys[name].values(name)]
        values = iter(self._values([name for name in names for _ in range(2)], commands))
        return [(decode_rows(rows), frames) for rows, frames in zip(values, values, strict=True)]

    def spans(self, spans: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Bytes of chunks' frames; each span is (name, first byte, byte after the last)."""
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


def _joined(refs: Sequence[SampleRefs]) -> SampleRefs:
    """All ``refs`` joined; the place is that of the first."""
    if len(refs) == 1:
        return refs[0]
    return SampleRefs(
        ids=np.concatenate([each.ids for each in refs]),
        probabilities=np.concatenate([each.probabilities for each in refs]),
        chunks=np.concatenate([each.chunks for each in refs]),
        rows=np.concatenate([each.rows for each in refs]),
        place=refs[0].place,
    )
