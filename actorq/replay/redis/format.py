"""Format of the data in Redis: keys, and chunks as bytes.

A chunk is two values under one hash tag, so that a cluster stores them together: `rows`, a header and one
record for each transition, and `frames`, the raw array. Both are written once and never changed. Each shard
has a list of its chunks, oldest first, which is authoritative: a chunk that is not in the list doesn't exist.
"""

from __future__ import annotations

import math
import re
import struct
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Chunk

_MAGIC = b"actorq-1"
_MOST_AXES = 6
_HEADER = struct.Struct(f"<8sIII8sI{_MOST_AXES}I")
_RECORD = struct.Struct("<qqII")
RECORD_BYTES = _RECORD.size
CHUNK_OVERHEAD_BYTES = 500
"""Redis's overhead for a chunk's keys beside their values: two entries of its table, and one of the list."""
OWNER = b"actorq-1:"
"""Prefix of the value that names a shard's owner."""


class ChunkLayout(NamedTuple):
    """Properties that all chunks of a replay share."""

    dtype: str
    """Dtype of frames in numpy's notation, with the byte order."""
    shape: tuple[int, ...]
    """Shape of one frame."""
    stack: int

    @classmethod
    def of(cls, chunk: Chunk) -> ChunkLayout:
        return cls(chunk.frames.dtype.str, chunk.frames.shape[1:], chunk.index.shape[1])

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"frames of {np.dtype(self.dtype)} {self.shape} in stacks of {self.stack}"


class ChunkRecord(NamedTuple):
    """A chunk's entry in its shard's list."""

    name: int
    """Unique over all incarnations of the shard."""
    first: int
    """Id of its first transition."""
    transitions: int
    frames: int

    @property
    def ids(self) -> range:
        return range(self.first, self.first + self.transitions)

    def pack(self) -> bytes:
        return _RECORD.pack(*self)

    @classmethod
    def unpack(cls, packed: bytes) -> ChunkRecord:
        return cls(*_RECORD.unpack(packed))


class Rows(NamedTuple):
    """A chunk without its frames."""

    layout: ChunkLayout
    frames: int
    """Number of frames."""
    records: NDArray[np.void]
    """[N] action, return, discount, priority, index and next_index of each transition; read-only."""

    def chunk(self, frames: bytes) -> Chunk:
        """The whole chunk. Raises `ValueError` if these frames don't belong to it."""
        rows = self.records
        return Chunk(
            frames=np.frombuffer(frames, self.layout.dtype).reshape(self.frames, *self.layout.shape),
            index=np.ascontiguousarray(rows["index"]),
            next_index=np.ascontiguousarray(rows["next_index"]),
            actions=np.ascontiguousarray(rows["action"]),
            returns=np.ascontiguousarray(rows["return"]),
            discounts=np.ascontiguousarray(rows["discount"]),
            priorities=np.ascontiguousarray(rows["priority"]),
        )


class Keys:
    """Keys of one shard, named RUN:SHARD."""

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self.owner = f"actorq:{{{shard}}}:owner"
        """Key of the shard's owner, who alone adds and removes chunks."""
        self.list = f"actorq:{{{shard}}}:chunks"
        self.pattern = f"actorq:{{{shard}:*}}:*"
        """Pattern that matches the values of all its chunks, and no other shard's."""
        self._value = re.compile(rf"actorq:\{{{re.escape(shard)}:[0-9a-f]+\}}:(rows|frames)".encode())

    def rows(self, name: int) -> str:
        return f"actorq:{{{self._shard}:{name:x}}}:rows"

    def frames(self, name: int) -> str:
        return f"actorq:{{{self._shard}:{name:x}}}:frames"

    def is_value(self, key: bytes) -> bool:
        """Whether the key has the form of a chunk's keys of this shard."""
        return self._value.fullmatch(key) is not None

    def values(self, name: int) -> tuple[str, str]:
        """Both keys of a chunk."""
        return self.rows(name), self.frames(name)


def encode_rows(chunk: Chunk) -> bytes:
    """Encode a chunk without its frames."""
    layout = ChunkLayout.of(chunk)
    if len(layout.shape) > _MOST_AXES:
        raise ValueError(f"chunk: frames have {len(layout.shape)} axes; Redis takes at most {_MOST_AXES}")
    shape = layout.shape + (0,) * (_MOST_AXES - len(layout.shape))
    header = _HEADER.pack(
        _MAGIC, len(chunk), len(chunk.frames), layout.stack, layout.dtype.encode(), len(layout.shape), *shape
    )
    rows = np.empty(len(chunk), _row_dtype(layout.stack))
    rows["action"] = chunk.actions
    rows["return"] = chunk.returns
    rows["discount"] = chunk.discounts
    rows["priority"] = chunk.priorities
    rows["index"] = chunk.index
    rows["next_index"] = chunk.next_index
    return header + rows.tobytes()


def encode_frames(chunk: Chunk) -> memoryview:
    """A chunk's frames as bytes: a view if they are contiguous."""
    return np.ascontiguousarray(chunk.frames).reshape(-1).view(np.uint8).data


def decode_rows(value: bytes) -> Rows:
    """The inverse of `encode_rows`. Raises `ValueError` for anything else."""
    if len(value) < _HEADER.size or value[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{len(value)} bytes that begin with {value[:8]!r} are no rows of a chunk")
    _, transitions, frames, stack, dtype, axes, *shape = _HEADER.unpack_from(value)
    records = _row_dtype(stack)
    if len(value) != _HEADER.size + transitions * records.itemsize or axes > _MOST_AXES:
        raise ValueError(f"the rows of {transitions} transitions can't have {len(value)} bytes")
    layout = ChunkLayout(dtype.rstrip(b"\0").decode(), tuple(shape[:axes]), stack)
    return Rows(layout, frames, np.frombuffer(value, records, offset=_HEADER.size))


@cache
def _row_dtype(stack: int) -> np.dtype[np.void]:
    fields: list[Any] = [
        ("action", "<i8"),
        ("return", "<f4"),
        ("discount", "<f4"),
        ("priority", "<f4"),
        ("index", "<i4", (stack,)),
        ("next_index", "<i4", (stack,)),
    ]
    return np.dtype(fields)
