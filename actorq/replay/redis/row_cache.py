"""Reader's cache of large chunks: everything but their frames is cached; frames are read when needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Sample

from .format import ChunkLayout, Rows
from .sample_refs import SampleRefs

_SLACK_FRAMES = 2
"""Largest gap, in unused frames, between two states that are read with one command."""


class ReadsSpans(Protocol):
    def rows(self, names: Sequence[int]) -> list[Rows]: ...
    def spans(self, spans: Sequence[tuple[int, int, int]]) -> list[bytes]: ...


class RowCache:
    """Least-recently-used cache of chunks' rows, of about ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes; the rows of one batch are cached even if they are larger."""
        self._limit = limit
        self._kept: OrderedDict[int, Rows] = OrderedDict()
        self._bytes = 0

    def read(self, refs: SampleRefs, reading: ReadsSpans) -> Sample:
        """The transitions of ``refs`` [B], with their frames read from Redis. Raises what ``reading``
        raises.
        """
        wanted = refs.chunks.tolist()
        self._provide(wanted, reading)
        layout = self._kept[wanted[0]].layout
        records = np.empty(len(wanted), self._kept[wanted[0]].records.dtype)
        for draw, (name, row) in enumerate(zip(wanted, refs.rows.tolist(), strict=True)):
            records[draw] = self._kept[name].records[row]
        self._shrink()
        observations, next_observations = _states(wanted, records, layout, reading)
        return Sample(
            ids=refs.ids,
            probabilities=refs.probabilities,
            observations=observations,
            actions=records["action"].astype(np.int64),
            returns=records["return"].astype(np.float32),
            discounts=records["discount"].astype(np.float32),
            next_observations=next_observations,
        )

    def _provide(self, names: Sequence[int], reading: ReadsSpans) -> None:
        absent = [name for name in dict.fromkeys(names) if name not in self._kept]
        for name, rows in zip(absent, reading.rows(absent), strict=True):
            self._kept[name] = rows
            self._bytes += rows.records.nbytes
        for name in names:
            self._kept.move_to_end(name)

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            _, rows = self._kept.popitem(last=False)
            self._bytes -= rows.records.nbytes


def _states(
    names: Sequence[int], records: NDArray[np.void], layout: ChunkLayout, reading: ReadsSpans
) -> tuple[NDArray[Any], NDArray[Any]]:
    """s_t and s_{t+n} of each record: both from one span of frames if they are close together."""
    now, later = records["index"], records["next_index"]
    begins = np.stack([now.min(1), later.min(1)])
    ends = np.stack([now.max(1), later.max(1)]) + 1
    begin, end = begins.min(0), ends.max(0)
    close = end - begin <= (ends - begins).sum(0) + _SLACK_FRAMES
    begins[:, close], ends[:, close] = begin[close], end[close]
    size = layout.frame_bytes
    spans = [
        (name, first * size, stop * size)
        for name, together, *both in zip(names, close.tolist(), *begins.tolist(), *ends.tolist(), strict=True)
        for first, stop in list(zip(both[:2], both[2:], strict=True))[: 1 if together else 2]
    ]
    read = iter(reading.spans(spans))
    states = np.empty((2, len(names), layout.stack, *layout.shape), layout.dtype)
    now, later = now - begins[0][:, None], later - begins[1][:, None]
    for draw, together in enumerate(close.tolist()):
        frames = _frames(next(read), layout)
        frames.take(now[draw], axis=0, out=states[0, draw], mode="clip")
        if not together:
            frames = _frames(next(read), layout)
        frames.take(later[draw], axis=0, out=states[1, draw], mode="clip")
    if layout.stack == 1:
        states = states[:, :, 0]
    return states[0], states[1]


def _frames(read: bytes, layout: ChunkLayout) -> NDArray[Any]:
    return np.frombuffer(read, layout.dtype).reshape(-1, *layout.shape)
