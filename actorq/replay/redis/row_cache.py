"""Large chunks: all but the frames is kept by who reads them; of frames only those wanted are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from actorq.replay.chunk import Transitions

from .format import ChunkLayout, Rows

_SLACK_FRAMES = 2
"""So many frames more are read, rather than ask twice."""


class ReadsSpans(Protocol):
    def rows(self, names: Sequence[int]) -> list[Rows]: ...
    def spans(self, spans: Sequence[tuple[int, int, int]]) -> list[bytes]: ...


class RowCache:
    """Keeps about so many bytes of rows, those unused for longest leaving first."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes; what one batch takes is kept in any case."""
        self._limit = limit
        self._kept: OrderedDict[int, Rows] = OrderedDict()
        self._bytes = 0

    def read(self, names: NDArray[np.int64], rows: NDArray[np.int32], reading: ReadsSpans) -> Transitions:
        """Transitions [B], whose frames are read. Raises what ``reading`` raises."""
        wanted = names.tolist()
        self._provide(wanted, reading)
        layout = self._kept[wanted[0]].layout
        records = np.empty(len(wanted), self._kept[wanted[0]].records.dtype)
        for draw, (name, row) in enumerate(zip(wanted, rows.tolist(), strict=True)):
            records[draw] = self._kept[name].records[row]
        self._shrink()
        observations, next_observations = _states(wanted, records, layout, reading)
        return Transitions(
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
    """s_t and s_{t+n} of each record: both from one span of frames where they lie close together."""
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
