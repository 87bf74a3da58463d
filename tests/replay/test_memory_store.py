"""The store in memory against a naive twin that keeps the chunks as they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from actorq.replay.chunk import Chunk
from actorq.replay.memory_store import MemoryStore

from .chunks import changed, make_chunk

NOT_DRAWN = np.empty(0)


class StoreAgainstNaiveTwin(RuleBasedStateMachine):
    """The twin is a dict from id to (chunk, position in it)."""

    CAPACITY = 50

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(self.CAPACITY)
        self.twin: dict[int, tuple[Chunk, int]] = {}
        self.next_id = 0
        self.frames = 0

    @rule(transitions=st.integers(1, 20), n_step=st.integers(1, 30), seed=st.integers(0, 2**16))
    def add(self, transitions: int, n_step: int, seed: int) -> None:
        # Any frames may make up a state: a chunk may hold stretches of many environments.
        chunk = make_chunk(transitions, start=self.frames, stack=2, n_step=n_step)
        rng = np.random.default_rng(seed)
        chunk = changed(
            chunk,
            index=rng.integers(0, len(chunk.frames), (transitions, 2), np.int32),
            next_index=rng.integers(0, len(chunk.frames), (transitions, 2), np.int32),
        )
        self.frames += len(chunk.frames)
        added, evicted = self.store.add(chunk)
        assert added == range(self.next_id, self.next_id + transitions)
        assert list(evicted) == list(self.twin)[: len(evicted)], "the oldest leave first"
        for i in evicted:
            del self.twin[i]
        assert not self.twin or next(iter(self.twin.values()))[1] == 0, "whole chunks leave"
        self.twin |= {i: (chunk, position) for position, i in enumerate(added)}
        self.next_id = added.stop

    @precondition(lambda self: self.twin)
    @rule(data=st.data())
    def gather(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(list(self.twin)), max_size=20))
        got = self.store.gather(np.array(ids, np.int64), NOT_DRAWN)
        assert len(got.actions) == len(ids)
        for row, i in enumerate(ids):
            chunk, position = self.twin[i]
            np.testing.assert_array_equal(got.observations[row], chunk.frames[chunk.index[position]])
            np.testing.assert_array_equal(
                got.next_observations[row], chunk.frames[chunk.next_index[position]]
            )
            assert got.actions[row] == chunk.actions[position]
            assert got.returns[row] == chunk.returns[position]
            assert got.discounts[row] == chunk.discounts[position]

    @rule()
    def save_and_load(self) -> None:
        state = self.store.state()
        self.store = MemoryStore(self.CAPACITY)
        self.store.load_state(state)

    @invariant()
    def holds_the_same(self) -> None:
        assert list(self.store.ids) == list(self.twin)
        assert len(self.store) <= self.CAPACITY


TestStoreAgainstNaiveTwin = StoreAgainstNaiveTwin.TestCase
TestStoreAgainstNaiveTwin.settings = settings(max_examples=60, stateful_step_count=40)


def test_shapes_and_dtypes_are_the_environments_own() -> None:
    for stack, shape in [(1, (4,)), (1, ()), (4, (8, 8))]:
        store = MemoryStore(100)
        chunk = make_chunk(10, stack=stack, n_step=3, frame_shape=shape)
        store.add(changed(chunk, frames=chunk.frames.astype(np.uint8)))
        got = store.gather(np.array([0, 5], np.int64), NOT_DRAWN)
        assert got.observations.dtype == np.uint8
        assert (
            got.observations.shape
            == got.next_observations.shape
            == (2, *([stack] if stack > 1 else []), *shape)
        )
        dtypes = [got.actions.dtype, got.returns.dtype, got.discounts.dtype]
        assert dtypes == [np.int64, np.float32, np.float32]


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda frames: frames.swapaxes(1, 2).copy().swapaxes(1, 2)]
)
def test_the_layout_of_a_chunks_memory_does_not_matter(layout: Any) -> None:
    store = MemoryStore(40)
    frames = np.arange(11 * 6, dtype=np.float32).reshape(11, 3, 2)
    for _ in range(3):
        store.add(changed(make_chunk(10), frames=layout(frames)))
    np.testing.assert_array_equal(store.gather(np.arange(20, 30), NOT_DRAWN).next_observations, frames[1:])
    np.testing.assert_array_equal(store.gather(np.arange(10), NOT_DRAWN).observations, frames[:10])


def test_what_was_gathered_is_the_callers_own() -> None:
    store = MemoryStore(4)
    store.add(make_chunk(4))
    got = store.gather(np.arange(4), NOT_DRAWN)
    names = got.__struct_fields__
    kept = [getattr(got, name).copy() for name in names]
    store.add(make_chunk(4, start=100))
    for name, copy in zip(names, kept, strict=True):
        array = getattr(got, name)
        assert array.flags.owndata
        np.testing.assert_array_equal(array, copy)


def test_memory_is_about_one_frame_a_transition() -> None:
    frame_bytes = 84 * 84
    capacity = 6_000
    store = MemoryStore(capacity)
    chunk = make_chunk(64, stack=4, n_step=3, frame_shape=(84, 84))
    chunk = changed(chunk, frames=chunk.frames.astype(np.uint8))
    for _ in range(2 * capacity // 64):
        store.add(chunk)
    assert len(store) > capacity - 64
    assert store.nbytes / capacity / frame_bytes < 1.13


def test_memory_is_taken_as_it_is_needed() -> None:
    store = MemoryStore(1_000_000)
    store.add(make_chunk(64, frame_shape=(84, 84)))
    rows = 1_000_000 * 24
    assert store.nbytes - rows < 70 * 84 * 84 * 4


def test_later_chunks_with_more_frames_still_fill_the_capacity() -> None:
    """Short episodes need more frames a transition than the first chunks did."""
    store = MemoryStore(1_000)
    for _ in range(50):
        store.add(make_chunk(25))
    for _ in range(400):
        store.add(make_chunk(25, n_step=25))
    assert len(store) == 1_000


def test_what_cannot_be_kept_is_refused_and_changes_nothing() -> None:
    store = MemoryStore(10)
    store.add(make_chunk(6))
    before = store.state()
    wrong: list[tuple[Chunk, str]] = [
        (make_chunk(11), "chunk of 11 transitions doesn't fit a replay of capacity 10"),
        (make_chunk(6, stack=2), "in stacks of 2; the ones before had .* in stacks of 1"),
        (make_chunk(6, frame_shape=(3,)), r"frames of float32 \(3,\)"),
        (changed(make_chunk(6), frames=np.zeros((7, 2))), "frames of float64"),
        (changed(make_chunk(6), returns=np.full(6, np.nan, np.float32)), "returns holds nan"),
    ]
    for chunk, message in wrong:
        with pytest.raises(ValueError, match=message):
            store.add(chunk)
    assert_same(store.state(), before)
    for ids in ([6], [-1], [0, 6]):
        with pytest.raises(KeyError, match=r"held are 0\.\.5"):
            store.gather(np.array(ids, np.int64), NOT_DRAWN)
    with pytest.raises(KeyError):
        MemoryStore(3).gather(np.array([0]), NOT_DRAWN)
    with pytest.raises(ValueError, match="don't fit"):
        MemoryStore(5).load_state(before)


def assert_same(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state.keys() == other.keys()
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            expected: NDArray[Any] = other[name]
            np.testing.assert_array_equal(value, expected)
        else:
            assert value == other[name]
