"""What lies in Redis: keys, and chunks as bytes.

A chunk is two values under one hash tag, so that a cluster keeps them together: `rows`, a header and one
record for each transition, and `frames`, the raw array. Both are written once and never changed. Each shard
has a list of the chunks it holds, oldest first, which is what counts: a chunk that it doesn't name isn't
there.
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
"""What Redis needs for a chunk's keys besides their values: two entries of its table, and one of the list."""
OWNER = b"actorq-1:"
"""Begins the value that says whose a shard is."""


class ChunkLayout(NamedTuple):
    """What all chunks of a replay have in common."""

    dtype: str
    """Of frames, as numpy writes it: with the byte order."""
    shape: tuple[int, ...]
    """Of one frame."""
    stack: int

    @classmethod
    def of(cls, chunk: Chunk) -> ChunkLayout:
        return cls(chunk.frames.dtype.str, chunk.frames.shape[1:], chunk.index.shape[1])

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"frames of {np.dtype(self.dtype)} {self.shape} in stacks of {self.stack}"


class ChunkRecord(NamedTuple):
    """A chunk as its shard's list names it."""

    name: int
    """Never given twice, in no life of the shard."""
    first: int
    """The id of its first transition."""
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
    """All of a chunk but its frames."""

    layout: ChunkLayout
    frames: int
    """How many there are."""
    records: NDArray[np.void]
    """[N] action, return, discount, priority, index and next_index of each transition; read-only."""

    def chunk(self, frames: bytes) -> Chunk:
        """The whole chunk. Raises `ValueError` if these frames aren't its own."""
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
    """The keys of one shard, named RUN:SHARD."""

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self.owner = f"actorq:{{{shard}}}:owner"
        """Whose the shard is: only the owner adds chunks or removes them."""
        self.list = f"actorq:{{{shard}}}:chunks"
        self.pattern = f"actorq:{{{shard}:*}}:*"
        """Fits the values of all its chunks, and no other shard's."""
        self._value = re.compile(rf"actorq:\{{{re.escape(shard)}:[0-9a-f]+\}}:(rows|frames)".encode())

    def rows(self, name: int) -> str:
        return f"actorq:{{{self._shard}:{name:x}}}:rows"

    def frames(self, name: int) -> str:
        return f"actorq:{{{self._shard}:{name:x}}}:frames"

    def is_value(self, key: bytes) -> bool:
        """Whether the shard may have written it."""
        return self._value.fullmatch(key) is not None

    def values(self, name: int) -> tuple[str, str]:
        """Both of a chunk."""
        return self.rows(name), self.frames(name)


def encode_rows(chunk: Chunk) -> bytes:
    """A chunk without its frames."""
    layout = ChunkLayout.of(chunk)
    if len(layout.shape) > _MOST_AXES:
        raise ValueError(f"chunk: frames have {len(layout.shape)} axes; Redis takes at most {_MOST_AXES}")
    shape = layout.shape + (0,) * (_MOST_AXES - len(layout.shape))
    header = _HEADER.pack(
        _MAGIC,
        len(chunk),
        len(chunk.frames),
        layout.stack,
        layout.dtype.encode(),
        len(layout.shape),
        *shape,
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
    """A chunk's frames: a view of them, where they lie in order."""
    return np.ascontiguousarray(chunk.frames).reshape(-1).view(np.uint8).data


def decode_rows(value: bytes) -> Rows:
    """What `encode_rows` made. Raises `ValueError` if it is anything else."""
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
