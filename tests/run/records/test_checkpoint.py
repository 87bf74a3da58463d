"""Checkpoints are restored exactly, or not at all."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from actorq.run.records import checkpoint
from actorq.run.records.checkpoint import CheckpointError, latest, load, save

META = {"updates": 7}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**126, 2**130)
    | st.floats()
    | st.text()
    | st.binary()
)
arrays = arrays_of.arrays(
    arrays_of.scalar_dtypes() | arrays_of.unsigned_integer_dtypes(endianness=">"),
    arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
values = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
states = st.dictionaries(st.text(), st.dictionaries(st.text(), values, max_size=4), max_size=3)


def same(left: Any, right: Any) -> bool:
    """Equal in type, value, dtype and every bit; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        alike = left.dtype == right.dtype and left.shape == right.shape
        return bool(alike and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return repr(left) == repr(right)  # tells -0.0 from 0.0, and NaN equals itself
    return bool(left == right)


@given(states=states, meta=st.dictionaries(st.text(), scalars, max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, states: Any, meta: Any) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    loaded_states, loaded_meta = load(save(folder, states, meta))
    assert same(loaded_states, states)
    assert same(loaded_meta, meta)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12)[::-2],
        np.array(5, np.uint64),
        np.zeros((0, 3), np.float16),
        np.array([1 + 2j], np.complex128),
        np.array(["2026-10-07"], "M8[D]"),
        {"a/b": np.zeros(1), "a": {"b": np.ones(1)}},
        {"$array": "nothing", "__metadata__": np.ones(2)},
        {"$": {"$tuple": []}},
        "\ud800",
        10**5000,
        (1, [2, (3,)]),
    ],
    ids=[
        "transposed",
        "strided",
        "scalar",
        "empty",
        "complex",
        "dates",
        "clash",
        "dollar",
        "nested-dollar",
        "surrogate",
        "huge",
        "tuples",
    ],
)
def test_awkward_values_come_back(tmp_path: Path, value: Any) -> None:
    states, _ = load(save(tmp_path, {"actor": {"value": value}}, {}))
    assert same(states["actor"]["value"], value)


def test_generators_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rng.random(5)
    states, _ = load(save(tmp_path, {"explorer": {"generator": rng.bit_generator.state}}, {}))
    other = np.random.default_rng()
    other.bit_generator.state = states["explorer"]["generator"]
    assert other.random() == rng.random()


def test_numpy_scalars_come_back_as_numbers(tmp_path: Path) -> None:
    state = {"a": np.float32(0.1), "b": np.int64(-3), "c": np.bool_(True), "d": np.float64(np.inf)}
    loaded = load(save(tmp_path, {"actor": state}, {}))[0]["actor"]
    assert same(loaded, {"a": float(np.float32(0.1)), "b": -3, "c": True, "d": float("inf")})


def test_loaded_arrays_are_the_callers_own(tmp_path: Path) -> None:
    arrays = load(save(tmp_path, {"a": {"m": np.zeros(3), "z": np.zeros(3, np.complex64)}}, {}))[0]["a"]
    for array in arrays.values():
        array += 1
        assert array.sum() == 3


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({1, 2}, r"states/learner/deep/0 is a set; a state is made of"),
        (np.array([None]), r"states/learner/deep/0 is an array of dtype object"),
        (np.zeros(1, [("x", "f4")]), r"is an array of dtype \[\('x'"),
        ({1: 2}, r"states/learner/deep/0 has the key 1; a state's keys are text"),
        (np.datetime64("2026-10-07"), r"is a numpy.datetime64\[D\]"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path: Path, value: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        save(tmp_path, {"learner": {"deep": [value]}}, {})
    assert latest(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    paths = [save(tmp_path, {"actor": {"n": n}}, META) for n in range(4)]
    assert sorted(tmp_path.iterdir()) == paths[2:]
    assert latest(tmp_path) == paths[3]
    assert load(paths[3]) == ({"actor": {"n": 3}}, META)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None
    with pytest.raises(CheckpointError, match=r"missing: no such checkpoint"):
        load(tmp_path / "missing")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, halve, Path.unlink], ids=["flip", "halve", "unlink"])
@pytest.mark.parametrize("name", [checkpoint.ARRAYS, checkpoint.STATE, checkpoint.SUMS])
def test_a_damaged_one_is_refused_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any
) -> None:
    good, bad = (save(tmp_path, {"actor": {"m": np.arange(100)}}, META) for _ in range(2))
    damage(bad / name)
    with pytest.raises(CheckpointError, match=r"checkpoint-000002: damaged: "):
        load(bad)
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path) == good
    assert "checkpoint-000002: damaged" in caplog.text
    after = save(tmp_path, {"actor": {}}, META)
    assert after.name == "checkpoint-000003"


@pytest.mark.parametrize("step", ["save_file", "_sum_of", "_sync"])
def test_a_crash_while_writing_leaves_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = save(tmp_path, {"actor": {"n": 1}}, META)

    def crash(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, step, crash)
        with pytest.raises(OSError, match="no space left"):
            save(tmp_path, {"actor": {"n": 2}}, META)
    assert latest(tmp_path) == before
    after = save(tmp_path, {"actor": {"n": 3}}, META)
    assert sorted(tmp_path.iterdir()) == [before, after], "the half-written one is gone"


def test_another_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 3)
        path = save(tmp_path, {}, {})
    with pytest.raises(CheckpointError, match="has format 3, and this version of actorq reads format 2"):
        load(path)


def test_a_checkpoint_of_before_is_refused_in_a_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"has format 1, .* or start a new run"):
        load(Path(__file__).with_name("format_1"))


def test_sums_that_fit_do_not_excuse_nonsense(tmp_path: Path) -> None:
    path = save(tmp_path, {"actor": {"m": np.zeros(2)}}, {})
    document = json.loads((path / checkpoint.STATE).read_text())
    document["states"]["actor"]["m"] = {"$array": "elsewhere"}
    (path / checkpoint.STATE).write_text(json.dumps(document))
    sums = [f"{checkpoint._sum_of(path / name)}  {name}\n" for name in (checkpoint.ARRAYS, checkpoint.STATE)]
    (path / checkpoint.SUMS).write_text("".join(sums))
    with pytest.raises(CheckpointError, match="damaged: 'elsewhere'"):
        load(path)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    path = save(tmp_path, {"actor": {"m": np.zeros(2)}}, {})
    subprocess.run(
        ["sha256sum", "--check", "--strict", checkpoint.SUMS], cwd=path, check=True, capture_output=True
    )
