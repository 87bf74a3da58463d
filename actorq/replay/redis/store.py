"""Redis store of one shard, used by its owner. Blocks: for threads, one call at a time."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Chunk

from .config import Place
from .connection import Command, RedisConnection, RedisFullError
from .format import (
    OWNER,
    RECORD_BYTES,
    ChunkLayout,
    ChunkRecord,
    Keys,
    Rows,
    decode_rows,
    encode_frames,
    encode_rows,
)
from .scripts import AS_OWNER, CLAIM, COMMIT

log = logging.getLogger("actorq.replay")

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""How long evicted chunks stay in Redis: a learner may just have received references to them."""

_AT_A_TIME = 256
"""Number of chunks read or deleted with one pipeline."""

_KEPT = b":kept"
"""Ends the owner's value if the data must outlive the run."""

_REMEDY = "delete the key or give the run another name"


class NotOursError(RuntimeError):
    """The data don't belong to this run: a retry would not help, or would do harm."""


class ForeignKeyError(NotOursError):
    """The value of one of the shard's keys was not written by actorq. It is left alone."""


class TakenOverError(NotOursError):
    """Another run writes to the shard."""


class KeptError(NotOursError):
    """The data are to be kept, and this run doesn't keep data."""


class LostError(Exception):
    """Redis restarted with less than it had acknowledged: open the store again."""


class Recovered(NamedTuple):
    """Contents of a shard found in Redis."""

    records: list[ChunkRecord]
    """Oldest first, their ids without a gap."""
    priorities: NDArray[np.float32]
    """[all transitions] their raw first priorities."""
    layout: ChunkLayout | None


class StoreWrite(NamedTuple):
    """Chunks to be added, and the oldest to be evicted for them."""

    chunks: Sequence[Chunk]
    records: Sequence[ChunkRecord]
    evicted: Sequence[ChunkRecord]
    before: ChunkRecord | None
    """The newest chunk present before."""


class RedisStore:
    """Chunks are written, then entered in the shard's list; removed from the list, then deleted.

    So anything a crash leaves half done is in no list, and is deleted when the store is opened next. Calls
    from several threads wait for each other, except `close`.
    """

    def __init__(self, place: Place, *, keep: bool = False) -> None:
        """Doesn't connect yet. With ``keep``, runs that don't keep data can't delete these.

        Raises RuntimeError if the password's variable isn't set.
        """
        self._place = place
        self._redis = RedisConnection(place.url, place.password_env)
        self._keys = Keys(place.shard)
        incarnation = secrets.randbits(31)
        self._owner = OWNER + f"{incarnation:08x}".encode() + (_KEPT if keep else b"")
        self._names = iter(range(incarnation << 32, (incarnation + 1) << 32))
        self._has_claimed = self._is_deleted = False
        self._turn = threading.Lock()
        self._evicted: deque[tuple[float, ChunkRecord]] = deque()
        self._grace = GRACE_SECONDS

    @property
    def place(self) -> Place:
        """Present location of the shard's data."""
        return self._place

    def move(self, place: Place) -> None:
        """Set a new location of the same data."""
        if place != self._place:
            self.close()
            self._place = place
            self._redis = RedisConnection(place.url, place.password_env)

    def open(self, capacity: int, *, afresh: bool) -> Recovered:
        """Become the shard's owner and read its contents, at most `capacity`; or, `afresh`, delete them.

        May be repeated, to read the contents again; the shard is taken from another owner only once. Raises
        ForeignKeyError if it isn't actorq's, KeptError if it must not be deleted, RuntimeError if this Redis
        may evict data, TakenOverError, LostError, and what `RedisConnection.execute` raises.
        """
        with self._in_turn():
            self._check_policy()
            self._check_keys()
            self._evicted.clear()
            self._evaluate(CLAIM, "again" if self._has_claimed else "afresh" if afresh else "as it is")
            self._has_claimed = True
            recovered = self._recover(capacity)
            foreign = self._delete_all_but(recovered.records)
            if foreign:
                raise ForeignKeyError(f"the key {foreign[0].decode()} in Redis isn't actorq's; {_REMEDY}")
            return recovered

    def new_name(self) -> int:
        """A unique name for a chunk."""
        return next(self._names)

    def write(self, write: StoreWrite) -> None:
        """Add chunks and remove others, all or none; may be repeated after an error.

        Raises TakenOverError, LostError, and what `RedisConnection.execute` raises.
        """
        with self._in_turn():
            until = time.monotonic() - self._grace
            doomed = [record for since, record in self._evicted if since <= until]
            try:
                self._redis.pipeline([*map(self._unlink, doomed), *self._values(write)])
            except RedisFullError:
                self._grace = 0.0  # the new chunks need the memory more
                raise
            self._grace = GRACE_SECONDS
            for _ in doomed:
                self._evicted.popleft()
            before = write.before.pack() if write.before else b""
            self._evaluate(COMMIT, before, len(write.evicted), *(record.pack() for record in write.records))
            now = time.monotonic()
            self._evicted.extend((now, record) for record in write.evicted)

    def delete(self) -> None:
        """Delete all data of the shard, and nothing else; nothing is written afterwards.

        Raises TakenOverError, and what `RedisConnection.execute` raises; then the remaining data belong to
        the next owner.
        """
        with self._in_turn():
            self._is_deleted = True
            self._evaluate(AS_OWNER, "UNLINK")
            self._delete_all_but([])
            self._evaluate(AS_OWNER, "UNLINK", self._keys.owner)

    def memory(self) -> int:
        """Bytes that Redis may use, on all primaries; 0 if one of them has no bound."""
        bounds = [int(memory.get("maxmemory", 0)) for memory in self._redis.info("memory")]
        return sum(bounds) if all(bounds) else 0

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        with self._turn:
            if self._is_deleted:
                raise LostError(f"{self._place.shard} has been deleted")
            yield

    def _check_policy(self) -> None:
        for memory in self._redis.info("memory"):
            policy = str(memory.get("maxmemory_policy", ""))
            if policy.startswith("allkeys") and memory.get("maxmemory"):
                raise RuntimeError(
                    f"Redis at {self._place.url} has maxmemory-policy {policy}: it may evict experience"
                    "; set noeviction there"
                )

    def _check_keys(self) -> None:
        keys = self._keys
        for key, kind in ((keys.owner, b"string"), (keys.list, b"list")):
            found = self._redis.execute("TYPE", key)
            if found not in (kind, b"none"):
                raise ForeignKeyError(
                    f"the key {key} in Redis is a {found.decode()}, not actorq's; {_REMEDY}"
                )
        owner = self._redis.execute("GET", keys.owner)
        if owner is not None and not owner.startswith(OWNER):
            raise ForeignKeyError(
                f"the key {keys.owner} in Redis holds {owner[:20]!r}, not actorq's; {_REMEDY}"
            )
        for packed in self._redis.execute("LRANGE", keys.list, 0, 0):
            self._unpack(packed)

    def _unpack(self, packed: bytes) -> ChunkRecord:
        if len(packed) != RECORD_BYTES:
            raise ForeignKeyError(f"the list {self._keys.list} in Redis holds {packed[:20]!r}; {_REMEDY}")
        return ChunkRecord.unpack(packed)

    def _recover(self, capacity: int) -> Recovered:
        """Read first priorities; drop chunks that are incomplete or unlike later ones, and all before them,
        since ids have no gaps.
        """
        whole: list[ChunkRecord] = []
        priorities: list[NDArray[np.float32]] = []
        layout = None
        records = [self._unpack(packed) for packed in self._redis.execute("LRANGE", self._keys.list, 0, -1)]
        for part in _parts(records):
            for record, rows in zip(part, self._read_rows(part), strict=True):
                goes_on = not whole or whole[-1].ids.stop == record.first
                if rows is None or rows.layout != layout or not goes_on:
                    whole, priorities, layout = [], [], None
                if rows is not None:
                    whole.append(record)
                    priorities.append(rows.records["priority"].copy())
                    layout = rows.layout
        size = sum(record.transitions for record in whole)
        while size > capacity:
            size -= whole.pop(0).transitions
            priorities.pop(0)
        gone = len(records) - len(whole)
        if gone:
            log.warning(
                "%d of %d chunks of %s are no longer in Redis, or exceed the capacity",
                gone,
                len(records),
                self._place.shard,
            )
            self._evaluate(AS_OWNER, "LTRIM", gone, -1)
        return Recovered(whole, np.concatenate([np.empty(0, np.float32), *priorities]), layout)

    def _read_rows(self, records: Sequence[ChunkRecord]) -> Iterator[Rows | None]:
        """The rows of each chunk, or None if it is incomplete."""
        keys = self._keys
        commands: list[Command] = []
        for record in records:
            commands += [("GET", keys.rows(record.name)), ("STRLEN", keys.frames(record.name))]
        answers = iter(self._redis.pipeline(commands))
        for record, value, size in zip(records, answers, answers, strict=True):
            if value is None:
                yield None
                continue
            try:
                rows = decode_rows(value)
            except ValueError as error:
                raise ForeignKeyError(f"{keys.rows(record.name)} in Redis: {error}; {_REMEDY}") from error
            is_whole = (
                len(rows.records) == record.transitions and size == rows.frames * rows.layout.frame_bytes
            )
            yield rows if is_whole else None

    def _values(self, write: StoreWrite) -> Iterator[Command]:
        for chunk, record in zip(write.chunks, write.records, strict=True):
            yield ("SET", self._keys.rows(record.name), encode_rows(chunk))
            yield ("SET", self._keys.frames(record.name), encode_frames(chunk))

    def _unlink(self, record: ChunkRecord) -> Command:
        return ("UNLINK", self._keys.rows(record.name), self._keys.frames(record.name))

    def _delete_all_but(self, records: Sequence[ChunkRecord]) -> list[bytes]:
        """Delete all other chunks; returns keys among them that aren't actorq's, and are left alone."""
        named = {key.encode() for record in records for key in self._keys.values(record.name)}
        found = [key for key in self._redis.scan(self._keys.pattern) if key not in named]
        orphans = list[bytes]()
        for part in _parts(found):
            kinds = self._redis.pipeline([("TYPE", key) for key in part])
            orphans += [
                key
                for key, kind in zip(part, kinds, strict=True)
                if self._keys.is_value(key) and kind in (b"string", b"none")
            ]
        # If this run is still the owner, none of these are from a later owner.
        self._evaluate(AS_OWNER, "EXISTS")
        for part in _parts(orphans):
            self._redis.pipeline([("UNLINK", key) for key in part])
        return sorted(set(found) - set(orphans))

    def _evaluate(self, script: str, *arguments: Any) -> None:
        """Run a script over the shard's own two keys; raises the error of its outcome."""
        keys = [self._keys.owner, self._keys.list]
        outcome = self._redis.evaluate(script, keys, [self._owner, *arguments])
        if outcome == b"kept":
            raise KeptError(
                f"what {self._place.shard} has in Redis at {self._place.url} is kept for a run of this name"
                f" with keep = true: set keep = true, give the run another name, or delete {self._keys.owner}"
                " there"
            )
        if outcome == b"taken":
            raise TakenOverError(
                f"another run writes to {self._place.shard} in Redis at {self._place.url}: give one of them"
                " another name"
            )
        if outcome == b"lost":
            raise LostError(f"Redis at {self._place.url} has lost acknowledged data")


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _AT_A_TIME] for start in range(0, len(items), _AT_A_TIME))
