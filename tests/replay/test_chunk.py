"""Chunks are checked before anything is kept of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actorq.replay.chunk import Batch

from .chunks import changed, make_chunk


def test_well_formed_chunks_pass() -> None:
    make_chunk(5).check()
    make_chunk(5, stack=4, n_step=3).check()
    make_chunk(1, frame_shape=()).check()
    changed(
        make_chunk(3), frames=np.zeros((9, 8, 8), np.uint8), discounts=np.array([0, -0.0, 1], np.float32)
    ).check()


def floats(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"index": np.zeros(3, np.int32)}, r"index has shape \(3,\)"),
        ({"index": np.zeros((0, 1), np.int32)}, "not empty"),
        ({"index": np.zeros((3, 1), np.int64)}, "index is int64"),
        ({"next_index": np.zeros((2, 1), np.int32)}, r"next_index .* must be int32 of shape \(3, 1\)"),
        ({"next_index": np.array([[0], [4], [1]], np.int32)}, r"next_index points to row 4 .* rows 0\.\.3"),
        ({"index": np.array([[0], [-1], [1]], np.int32)}, "index points to row -1"),
        ({"actions": np.zeros(3, np.int32)}, "actions is int32"),
        ({"actions": np.zeros((3, 1), np.int64)}, "actions is int64 of shape"),
        ({"returns": np.zeros(3)}, "returns is float64"),
        ({"returns": floats(0, np.nan, 0)}, "returns holds nan; its values must be finite"),
        ({"returns": floats(0, np.inf, -np.inf)}, "returns holds inf"),
        ({"discounts": floats(0, 1, 1.5)}, r"discounts holds 1\.5; its values must be from 0 to 1"),
        ({"discounts": floats(0, 1, np.nan)}, "discounts holds nan"),
        ({"discounts": floats(-0.0, -0.5, 1)}, "discounts holds -0.5"),
        ({"priorities": floats(1, -1, 1)}, "priorities holds -1.0"),
        ({"priorities": floats(1, np.inf, 1)}, "priorities holds inf"),
        ({"priorities": floats(1, 1)}, r"priorities .* must be float32 of shape \(3,\)"),
        ({"frames": np.array(["a"] * 4)}, "frames has dtype <U1"),
        ({"frames": np.float32(1)}, "frames has dtype"),
        ({"frames": np.array([[0], [0], [np.nan], [0]], np.float16)}, "frames holds nan"),
    ],
)
def test_malformed_chunks_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(make_chunk(3), **fields).check()


def test_a_batch_is_split_into_parts_that_each_span_it() -> None:
    names = Batch.__struct_fields__
    fields: dict[str, Any] = {name: np.arange(12) + 100 * place for place, name in enumerate(names)}
    batch = Batch(**fields)
    parts = batch.split(3)
    assert [part.ids.tolist() for part in parts] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert all((getattr(part, name) % 100).tolist() == part.ids.tolist() for part in parts for name in names)
    assert batch.split(1) == [batch]
