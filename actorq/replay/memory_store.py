"""In-memory store: transitions by id, each observation stored once."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .chunk import Chunk, Sample
from .sampling.index import IdWindow

_GROWTH_BYTES = 16 * 2**20  # a longer step would delay the caller: the new memory is written once (5 ms)
_GROWTH_SHARE = 64  # ... nor more than this part of the ring, which may stay unused


_FIELDS = ("action", "return", "discount", "index", "next_index")


class StoredChunk(NamedTuple):
    """Result of an `add`."""

    added: range
    """Ids of the chunk's transitions, in its order."""
    evicted: range
    """Ids evicted to make room, the oldest first."""


class MemoryStore:
    """Holds at most ``capacity`` transitions, first in, first out, by whole chunks.

    Frames are in a ring of their own, in their own dtype, that grows until it holds the frames of
    ``capacity`` transitions: about (64 + stack - 1 + n) / 64 frames a transition for chunks of 64. If later
    chunks need more frames, the ring grows again when its data is next contiguous, and until then the oldest
    chunks are evicted a little early.
    """

    def __init__(self, capacity: int) -> None:
        self._window = IdWindow(capacity)
        self._chunks: deque[tuple[int, int]] = (
            deque()
        )  # (transitions, frames) of each chunk held, oldest first
        self._rows: NDArray[np.void] | None = (
            None  # [capacity]; the first chunk determines the dtype of a row
        )
        self._frames: NDArray[Any] = np.empty(0)
        self._live_frames = 0
        self._end = 0  # row of the frame ring after the newest frame

    def __len__(self) -> int:
        """Transitions held."""
        return len(self._window)

    @property
    def capacity(self) -> int:
        """Most transitions held at a time."""
        return self._window.capacity

    @property
    def ids(self) -> range:
        """Ids of the transitions held, oldest first."""
        return self._window.ids

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._frames.nbytes + (0 if self._rows is None else self._rows.nbytes)

    def add(self, chunk: Chunk) -> StoredChunk:
        """Copy a chunk in, evicting the oldest chunks if it doesn't fit otherwise.

        Raises `ValueError`, and changes nothing, if the chunk is malformed, larger than the capacity, or has
        frames that differ in shape or dtype from the ones before.
        """
        chunk.check()
        count, frames = len(chunk.actions), len(chunk.frames)
        if count > self.capacity:
            raise ValueError(
                f"a chunk of {count} transitions doesn't fit a replay of capacity {self.capacity}:"
                " make the capacity larger or the chunks shorter"
            )
        if self._rows is None:
            self._rows = np.empty(self.capacity, _row_dtype(chunk.index.shape[1]))
            self._frames = np.empty(chunk.frames.shape, chunk.frames.dtype)  # whatever the chunk's own layout
        else:
            self._expect_alike(chunk, self._rows.dtype)
        evicted = self._make_room(count, frames)
        base = self._end % len(self._frames)
        _write(self._frames, base, chunk.frames)
        self._end = (base + frames - 1) % len(self._frames) + 1
        self._live_frames += frames
        self._chunks.append((count, frames))
        newest = self._window.stop
        added = range(newest, newest + count)
        self._window.extend(added)
        self._write_rows(self._rows, newest % self.capacity, base, chunk)
        return StoredChunk(added, evicted)

    def gather(self, ids: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Sample:
        """Copy the transitions ``ids`` [B], with the ``probabilities`` [B] with which they were drawn.

        ``ids`` and ``probabilities`` become fields of the sample and are not copied. Raises `KeyError` if an
        id is not in the store.
        """
        window = self._window
        ages = ids - window.first
        # As unsigned numbers, ids older than the oldest are huge.
        if self._rows is None or np.maximum.reduce(ages.view(np.uint64), initial=0) >= len(window):
            raise KeyError(f"not all of these ids are held; held are {window.first}..{window.stop - 1}")
        rows = self._rows.take(ages + window.first % window.capacity, mode="wrap")
        return Sample(
            ids=ids,
            probabilities=probabilities,
            observations=self._observations(rows["index"]),
            actions=rows["action"].copy(),
            returns=rows["return"].copy(),
            discounts=rows["discount"].copy(),
            next_observations=self._observations(rows["next_index"]),
        )

    def state(self) -> dict[str, Any]:
        """Copies of all transitions held, oldest first, and their positions."""
        state: dict[str, Any] = {
            "first_id": self._window.first,
            "chunks": np.array(self._chunks, np.int64).reshape(-1, 2),
            "frame_rows": len(self._frames),
            "frames_end": self._end,
        }
        if self._rows is not None:
            rows = self._rows.take(self._window.slots(self._window.ids))
            state["frames"] = self._frames.take(self._live_frame_rows(), axis=0)
            state |= {name: rows[name].copy() for name in _FIELDS}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `state`. Raises `ValueError` if it holds more than the capacity."""
        chunks = [(int(transitions), int(frames)) for transitions, frames in state["chunks"]]
        count = sum(transitions for transitions, _ in chunks)
        window = IdWindow(self.capacity, first=state["first_id"])
        window.extend(range(state["first_id"], state["first_id"] + count))
        self._window = window
        self._chunks = deque(chunks)
        self._live_frames = sum(frames for _, frames in chunks)
        self._end = state["frames_end"]
        if "frames" not in state:
            self._rows, self._frames = None, np.empty(0)
            return
        self._frames = np.empty((state["frame_rows"], *state["frames"].shape[1:]), state["frames"].dtype)
        self._frames[self._live_frame_rows()] = state["frames"]
        self._rows = np.empty(self.capacity, _row_dtype(state["index"].shape[1]))
        slots = window.slots(window.ids)
        for name in _FIELDS:
            self._rows[name][slots] = state[name]

    def _expect_alike(self, chunk: Chunk, row: np.dtype[np.void]) -> None:
        mine = (self._frames.dtype, self._frames.shape[1:], row["index"].shape[0])
        its = (chunk.frames.dtype, chunk.frames.shape[1:], chunk.index.shape[1])
        if its != mine:
            raise ValueError(
                f"this chunk has frames of {its[0]} {its[1]} in stacks of {its[2]};"
                f" the ones before had {mine[0]} {mine[1]} in stacks of {mine[2]}"
            )

    def _make_room(self, transitions: int, frames: int) -> range:
        """Evict and grow until there is room for this many more; returns the ids evicted."""
        window, first = self._window, self._window.first
        while window.stop - window.first + transitions > window.capacity:
            self._evict()
        while self._live_frames + frames > len(self._frames):
            if self._end >= self._live_frames:  # the data is contiguous
                self._grow(frames)
            else:
                self._evict()
        return range(first, window.first)

    def _evict(self) -> None:
        transitions, frames = self._chunks.popleft()
        first = self._window.first
        self._window.retract(range(first, first + transitions))
        self._live_frames -= frames

    def _grow(self, frames: int) -> None:
        rows = len(self._frames)
        step = min(rows // _GROWTH_SHARE, _GROWTH_BYTES // max(1, self._frames[0].nbytes))
        # In place: large arrays are moved by the kernel's page tables and never held twice.
        self._frames.resize((rows + max(frames, step), *self._frames.shape[1:]), refcheck=False)

    def _write_rows(self, rows: NDArray[np.void], slot: int, base: int, chunk: Chunk) -> None:
        count = len(chunk.actions)
        around = slot + count > len(rows)
        part = np.empty(count, rows.dtype) if around else rows[slot : slot + count]
        np.add(chunk.index, base, out=part["index"])
        np.add(chunk.next_index, base, out=part["next_index"])
        part["action"] = chunk.actions
        part["return"] = chunk.returns
        part["discount"] = chunk.discounts
        if around:
            _write(rows, slot, part)

    def _observations(self, index: NDArray[np.int32]) -> NDArray[Any]:
        return self._frames.take(index[:, 0] if index.shape[1] == 1 else index, axis=0, mode="wrap")

    def _live_frame_rows(self) -> NDArray[np.int64]:
        return np.arange(self._end - self._live_frames, self._end) % len(self._frames)


def _row_dtype(stack: int) -> np.dtype[np.void]:
    """Dtype of a transition as one record, so that a random read misses the cache once instead of five times.

    ``index`` and ``next_index`` are rows of the frame ring, counted on beyond its end where a chunk wraps
    around.
    """
    return np.dtype(
        [
            ("action", np.int64),
            ("return", np.float32),
            ("discount", np.float32),
            ("index", np.int32, (stack,)),
            ("next_index", np.int32, (stack,)),
        ]
    )


def _write(ring: NDArray[Any], start: int, values: NDArray[Any]) -> None:
    """Write ``values`` from row ``start`` on, wrapping at the ring's end."""
    until_end = len(ring) - start
    if len(values) <= until_end:
        ring[start : start + len(values)] = values
    else:
        ring[start:] = values[:until_end]
        ring[: len(values) - until_end] = values[until_end:]
