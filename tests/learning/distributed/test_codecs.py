"""Gradient codecs: error bounds, exact bytes, error feedback, and whatever a hostile peer may send."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from actorq.actors import Message
from actorq.actors.message import seal
from actorq.learning.distributed.codecs import (
    Encoder,
    decode,
    encode,
    largest_magnitudes,
    read_only_tensor,
    view,
)
from actorq.learning.distributed.encoded import CODECS, INT8_BLOCK, Encoded, check, top_k_count
from tests.learning.distributed.encoded_bytes import encoded_bytes

DTYPES = (torch.float32, torch.float64)
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    1.5,
    2.5,
    1e-45,
    1e-40,
    6e-8,
    2.0**-25,
    1e-30,
    65504.0,
    65519.9,
    65520.0,
    1e30,
    3.4e38,
]


def random_vector(seed: int, size: int, dtype: torch.dtype, exponents: int = 0) -> Tensor:
    """Normal numbers, times powers of ten in ±exponents, with special ones and ties strewn in."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=size) * 10.0 ** random.integers(-exponents, exponents, size, endpoint=True)
    if exponents and size:
        spots = random.integers(size, size=size // 4 + 1)
        numbers[spots] = random.choice(SPECIAL, len(spots)) * random.choice([-1, 1], len(spots))
        numbers[random.integers(size, size=size // 8)] = 0.25  # equal magnitudes
    return torch.from_numpy(numbers).to(dtype)


def decoded(encoded: Encoded, dtype: torch.dtype = torch.float32) -> Tensor:
    out = torch.full((encoded.size,), 7.0, dtype=dtype)
    decode(encoded, out)
    return out


seeds = st.integers(0, 2**32 - 1)
block_edges = st.integers(0, 7).flatmap(lambda n: st.sampled_from([n * 256, n * 256 + 1, n * 256 + 255]))
sizes = st.integers(0, 2000) | block_edges
vectors = st.builds(random_vector, seeds, sizes, st.sampled_from(DTYPES), st.sampled_from([0, 3, 37]))


def half_bound(vector: NDArray[np.float64], dtype: torch.dtype) -> NDArray[np.float64]:
    """Nearest of `dtype`, by way of float32, with numbers beyond the largest made the largest."""
    info = torch.finfo(dtype)
    clipped = np.clip(vector, -info.max, info.max)
    rounding = np.abs(clipped) * (info.eps / 2 + 2.0**-24) + info.smallest_normal * info.eps / 2
    return rounding + np.abs(vector - clipped)


def int8_bound(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a step of the block, and the roundings of float32; blocks of denormal scales become zero."""
    padded = np.zeros(-(-len(vector) // INT8_BLOCK) * INT8_BLOCK)
    padded[: len(vector)] = np.abs(vector)
    steps = padded.reshape(-1, INT8_BLOCK).max(1) / 127
    bounds = steps * (0.5 + 2.0**-15) + 127 * 2.0**-126
    return np.repeat(bounds, INT8_BLOCK)[: len(vector)]


@given(vectors)
@settings(max_examples=150)
def test_the_error_is_within_its_bound(vector: Tensor) -> None:
    exact = vector.double().numpy()
    for codec, bound in (
        ("whole", np.zeros(len(exact))),
        ("float16", half_bound(exact, torch.float16)),
        ("bfloat16", half_bound(exact, torch.bfloat16)),
        ("int8", int8_bound(exact)),
    ):
        out = decoded(encode(codec, vector), vector.dtype)
        error = np.abs(out.double().numpy() - exact)
        assert (error <= bound).all(), codec


@given(seeds, sizes, st.sampled_from(DTYPES), st.sampled_from([0.001, 0.01, 0.3, 1.0]), st.integers(1, 6))
@settings(max_examples=60)
def test_top_k_loses_nothing(seed: int, size: int, dtype: torch.dtype, share: float, steps: int) -> None:
    encoder = Encoder("top_k", size, dtype=dtype, top_k_share=share)
    given_, applied = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
    for step in range(steps):
        vector = random_vector(seed + step, size, dtype) * 10**step
        encoded = encoder(vector)
        assert len(encoded.values) == top_k_count(size, share)
        if (seed >> step) % 3:
            applied += decoded(encoded, dtype)
        else:  # the server refused it
            encoder.give_back(encoded)
        given_ += vector
    total = applied + torch.from_numpy(encoder.state()["residual"])
    torch.testing.assert_close(total, given_, rtol=0, atol=10**steps * 8 * torch.finfo(dtype).eps)


@given(vectors, st.floats(0.0, 1.0))
@settings(max_examples=100)
def test_the_largest_are_chosen_as_a_full_sort_does(vector: Tensor, share: float) -> None:
    numbers = vector.numpy()
    count = top_k_count(len(numbers), share)
    indices = largest_magnitudes(numbers, count)
    assert len(indices) == count
    assert (np.diff(indices) > 0).all()
    expected = np.sort(np.abs(numbers))[len(numbers) - count :]
    np.testing.assert_array_equal(np.sort(np.abs(numbers[indices])), expected)


def test_a_sample_that_misleads_costs_no_exactness() -> None:
    numbers = np.ones(61 * 200)
    numbers[::61] = np.arange(200) + 2.0  # all that the sample sees are the largest
    assert largest_magnitudes(numbers, 10).tolist() == [61 * i for i in range(190, 200)]
    assert len(largest_magnitudes(numbers, 1000)) == 1000
    assert len(largest_magnitudes(np.zeros(10_000), 100)) == 100


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 49, 50, 150, 255, 256, 257, 2000])
def test_the_bytes_are_foretold(codec: Any, dtype: torch.dtype, size: int) -> None:
    encoded = Encoder(codec, size, dtype=dtype)(torch.ones(size, dtype=dtype))
    arrays = [array for array in (encoded.values, encoded.extra) if array is not None]
    assert encoded.nbytes == sum(len(array.tobytes()) for array in arrays)
    assert encoded.nbytes == encoded_bytes(codec, size, number_bytes=dtype.itemsize)


@pytest.mark.parametrize(("codec", "times"), [("float16", 2), ("bfloat16", 2), ("int8", 3.93), ("top_k", 50)])
def test_how_many_times_fewer_bytes(codec: Any, times: float) -> None:
    size = 1_700_000
    assert encoded_bytes("whole", size) >= times * encoded_bytes(codec, size)


def test_rounding_goes_to_even() -> None:
    half = decoded(encode("float16", torch.tensor([2049.0, 2051.0, -2049.0])))
    assert half.tolist() == [2048.0, 2052.0, -2048.0]
    brain = decoded(encode("bfloat16", torch.tensor([257.0, 259.0, -257.0])))
    assert brain.tolist() == [256.0, 260.0, -256.0]
    eight = decoded(encode("int8", torch.tensor([127.0, 0.5, 1.5, -2.5])))  # a scale of one
    assert eight.tolist() == [127.0, 0.0, 2.0, -2.0]


def test_a_block_too_small_for_a_scale_becomes_zero() -> None:
    vector = torch.cat([torch.full((256,), 1e-40), torch.zeros(256), torch.ones(256)])
    encoded = encode("int8", vector)
    assert encoded.extra is not None
    assert (encoded.extra > 0).tolist() == [False, False, True]
    assert not encoded.values[:512].any()
    assert decoded(encoded)[512:].tolist() == pytest.approx([1.0] * 256)


def test_beyond_the_range_is_the_largest() -> None:
    vector = torch.tensor([65520.0, -1e30, 3.4028e38])
    assert decoded(encode("float16", vector)).tolist() == [65504.0, -65504.0, 65504.0]
    assert decoded(encode("bfloat16", vector))[2] == torch.finfo(torch.bfloat16).max
    huge = torch.tensor([1e300, -1e300], dtype=torch.float64)
    for codec in ("float16", "bfloat16", "int8", "top_k"):
        out = decoded(Encoder(codec, 2, dtype=torch.float64, top_k_share=1.0)(huge))
        assert 65504 <= out[0] < torch.inf, codec
        assert out[0] == -out[1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_not_finite_reaches_the_receiver_so(codec: str, bad: float) -> None:
    vector = torch.randn(600)
    vector[[3, 599]] = bad
    vector[4] = 1e30
    encoder = Encoder(codec, 600)
    encoded = encoder(vector)
    if codec == "int8":
        with pytest.raises(ValueError, match="not finite"):
            decoded(encoded)
    else:
        out = decoded(encoded)
        np.testing.assert_equal(out[3].item(), bad)
        assert codec != "float16" or out[4] == 65504
    encoder.give_back(encoded)
    good = encoder(torch.ones(600))
    assert decoded(good).isfinite().all(), "no trace is left of it"
    if codec == "top_k":
        assert encoder.state()["residual"].sum() == 600 - len(good.values)


def test_the_residual_is_a_state() -> None:
    encoder, other = (Encoder("top_k", 300, dtype=torch.float64) for _ in range(2))
    encoder(torch.randn(300, dtype=torch.float64))
    other.load_state(encoder.state())
    vector = torch.randn(300, dtype=torch.float64)
    torch.testing.assert_close(decoded(encoder(vector)), decoded(other(vector)), rtol=0, atol=0)
    assert Encoder("int8", 3).state() == {}
    Encoder("int8", 3).load_state({})
    for state in ({}, {"residual": np.zeros(299)}, {"residual": np.zeros(300, np.float32)}):
        with pytest.raises(ValueError):
            other.load_state(state)
    with pytest.raises(ValueError, match="another codec"):
        Encoder("int8", 3).load_state({"residual": np.zeros(3)})


def test_what_an_encoder_refuses() -> None:
    with pytest.raises(ValueError, match="no codec 'zip'"):
        Encoder("zip", 3)
    with pytest.raises(ValueError, match=r"float16 have no codec"):
        Encoder("whole", 3, dtype=torch.float16)
    with pytest.raises(ValueError, match="top_k_share"):
        Encoder("top_k", 3, top_k_share=0.0)
    with pytest.raises(ValueError, match="more shards"):
        Encoder("top_k", 2**32 + 1)
    with pytest.raises(ValueError, match="needs an Encoder"):
        encode("top_k", torch.zeros(3))
    encoder = Encoder("top_k", 3)
    for vector in (torch.zeros(4), torch.zeros(3, dtype=torch.float64), torch.zeros(3, 1)):
        with pytest.raises(ValueError, match=r"must be \[3\] torch.float32"):
            encoder(vector)


class Parcel(Message, frozen=True):
    encoded: Encoded


@pytest.mark.parametrize("codec", CODECS)
def test_a_message_takes_the_arrays_as_they_are(codec: str) -> None:
    gradient = torch.randn(1000)
    before = gradient.clone()
    parcel = Parcel(Encoder(codec, 700)(gradient[100:800]))
    arrays = parcel.encoded.values, parcel.encoded.extra
    seal(parcel)
    assert (parcel.encoded.values, parcel.encoded.extra) == arrays, "sealing copies nothing"
    sent = decoded(parcel.encoded)
    gradient.zero_()
    torch.testing.assert_close(decoded(parcel.encoded), sent, rtol=0, atol=0)
    if codec == "whole":
        torch.testing.assert_close(sent, before[100:800], rtol=0, atol=0)


def test_whole_is_seen_without_a_copy() -> None:
    parcel = Parcel(encode("whole", torch.arange(5.0)))
    seal(parcel)
    out = torch.full((5,), 7.0)
    seen = view(parcel.encoded, out)
    assert seen is not None
    assert seen.data_ptr() == parcel.encoded.values.ctypes.data
    memory = weakref.ref(parcel.encoded.values)
    del parcel
    assert seen.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert memory() is not None, "the view keeps it alive"
    del seen
    assert memory() is None
    assert view(encode("int8", torch.arange(5.0)), out) is None
    for wrong in (torch.zeros(4), torch.zeros(5, dtype=torch.float64)):
        with pytest.raises(ValueError):
            view(encode("whole", torch.arange(5.0)), wrong)
    assert out.tolist() == [7.0] * 5


def test_a_read_only_array_keeps_its_flag() -> None:
    for array in (np.arange(3.0), np.arange(0, dtype=np.uint16), np.arange(12, dtype=np.int8)[::3]):
        array.flags.writeable = False
        tensor = read_only_tensor(array)
        assert tensor.tolist() == array.tolist()
        assert not array.flags.writeable


ANY = st.sampled_from(["<f4", "<f8", "<f2", ">f4", "<u2", "<i1", "<u4", ">u4", "<i4", "<c8"])
arrays = st.builds(
    lambda dtype, shape, seed: (
        np.random.default_rng(seed).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8).view(dtype)
    )[..., 0],
    ANY,
    st.sampled_from([(), (0,), (1,), (2,), (5,), (300,), (300, 1), (1, 300), (2**16,)]),
    seeds,
)


@given(
    st.sampled_from([*CODECS, "", "zip" * 1000]),
    st.sampled_from([300, 0, -1, 5, 2**62]),
    arrays,
    st.none() | arrays,
    st.sampled_from(DTYPES),
)
@settings(max_examples=300)
def test_what_a_peer_may_send_is_decoded_or_refused(
    codec: str, size: int, values: NDArray[Any], extra: NDArray[Any] | None, dtype: torch.dtype
) -> None:
    out = torch.full((300,), 7.0, dtype=dtype)
    try:
        decode(Encoded(codec, size, values, extra), out)
    except ValueError:
        assert (out == 7.0).all(), "nothing is half written"


def spoiled() -> list[tuple[str, Encoded, str]]:
    """One fault each, in what is right otherwise."""
    torch.manual_seed(0)
    vector = torch.randn(300)
    right = {codec: Encoder(codec, 300)(vector) for codec in CODECS}
    scales = right["int8"].extra
    assert scales is not None
    nan, negative = np.array([scales[0], np.nan], np.float32), -scales
    u4 = np.uint32
    top_k, int8, whole = right["top_k"], right["int8"], right["whole"]
    return [
        ("codec", replace(whole, codec="zip"), "no codec 'zip'"),
        ("size", replace(whole, size=301), "301 numbers instead of 300"),
        ("size of less", replace(top_k, size=299), "299 numbers"),
        ("length", replace(whole, values=whole.values[:299]), r"values must be \[300\] float32"),
        ("rank", replace(whole, values=whole.values[:, None]), r"not \[300, 1\]"),
        ("float64", replace(whole, values=whole.values.astype(np.float64)), "not .* float64"),
        ("byte order", replace(whole, values=whole.values.astype(">f4")), "not .* >f4"),
        ("stride", replace(whole, values=np.zeros(600, np.float32)[::2]), "contiguous"),
        ("superfluous", replace(whole, extra=scales), "doesn't use"),
        ("half", replace(right["float16"], values=right["bfloat16"].values), "float16, not .* uint16"),
        ("brain", replace(right["bfloat16"], values=right["float16"].values), "uint16, not .* float16"),
        ("no scales", replace(int8, extra=None), "scales are missing"),
        ("few scales", replace(int8, extra=scales[:1]), r"scales must be \[2\]"),
        ("NaN scale", replace(int8, extra=nan), "not finite"),
        ("infinite scale", replace(int8, extra=nan * np.inf), "not finite"),
        ("negative scale", replace(int8, extra=negative), "negative"),
        ("no indices", replace(top_k, extra=None), "indices are missing"),
        ("few indices", replace(top_k, extra=np.array([1, 2], u4)), r"indices must be \[3\]"),
        ("signed", replace(top_k, extra=np.array([1, 2, 3], np.int64)), "uint32, not .* int64"),
        ("repeated", replace(top_k, extra=np.array([1, 2, 2], u4)), "repeated"),
        ("descending", replace(top_k, extra=np.array([3, 2, 1], u4)), "ascending"),
        ("out of range", replace(top_k, extra=np.array([1, 2, 300], u4)), "index 300"),
        ("far out", replace(top_k, extra=np.array([1, 2, 2**32 - 1], u4)), "index 4294967295"),
    ]


@pytest.mark.parametrize(("encoded", "match"), [pytest.param(*rest, id=name) for name, *rest in spoiled()])
def test_one_problem_is_refused_and_named(encoded: Encoded, match: str) -> None:
    out = torch.full((300,), 7.0)
    with pytest.raises(ValueError, match=match):
        decode(encoded, out)
    assert (out == 7.0).all()


def test_checking_needs_no_torch_dtype() -> None:
    encoded = encode("whole", torch.zeros(3))
    check(encoded, 3, np.float32)
    with pytest.raises(ValueError, match="float64, not"):
        check(encoded, 3, np.float64)
