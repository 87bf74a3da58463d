"""Weights sent as differences: receivers hold the sender's bits, and the error does not grow."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from actorq.learning.distributed.deltas import DeltaChain, follow
from tests.learning.distributed.encoded_bytes import encoded_bytes

DeltaCodec = Literal["float16", "int8"]
CODECS: list[DeltaCodec] = ["float16", "int8"]


def bound(codec: str, difference: Tensor, dtype: torch.dtype) -> float:
    """What the last link may be off by; the roundings of the sums are left to the caller."""
    largest = difference.abs().max().item()
    if codec == "float16":
        return largest * 2.0**-11 + 2.0**-25
    return largest / 127 * (0.5 + 2.0**-15) + 127 * 2.0**-126


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 600),
    st.sampled_from(CODECS),
    st.sampled_from([torch.float32, torch.float64]),
    st.lists(st.booleans(), min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_receivers_hold_the_senders_bits(
    seed: int, size: int, codec: DeltaCodec, dtype: torch.dtype, asks: list[bool]
) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(size, dtype=dtype, generator=random)
    chain = DeltaChain(weights, codec, keep=10)
    mine, number, wholes = weights.clone(), 0, 0
    for asked in asks:
        weights = weights + 0.01 * torch.randn(size, dtype=dtype, generator=random)
        difference = weights - chain.latest
        chain.advance(weights)
        rounding = 2 * torch.finfo(dtype).eps * (weights.abs().max().item() + 1)
        error = (chain.latest - weights).abs().max().item()
        assert error <= bound(codec, difference, dtype) + rounding
        if not asked:
            continue
        links = chain.since(number)
        if links is None:
            wholes += 1
            mine.copy_(chain.latest)
        else:
            assert sum(link.nbytes for link in links) < size * dtype.itemsize
            follow(mine, links)
        number = chain.number
        np.testing.assert_array_equal(mine.numpy(), chain.latest.numpy())
    if all(asks) and size > 1:
        assert not wholes, "who keeps up never needs the whole"


@pytest.mark.parametrize(("codec", "served"), [("float16", 1), ("int8", 3)])
def test_links_are_given_only_where_they_save_bytes(codec: DeltaCodec, served: int) -> None:
    chain = DeltaChain(torch.zeros(1024), codec, keep=6)
    assert chain.since(0) == []
    for _ in range(8):
        chain.advance(torch.randn(1024))
    assert chain.number == 8
    for until in range(2, 9):
        for number in range(9):
            links = chain.since(number, until)
            if max(2, until - served) <= number <= until:
                assert links is not None
                assert len(links) == until - number
            else:
                assert links is None
    assert (served + 1) * encoded_bytes(codec, 1024) >= 4 * 1024 > served * encoded_bytes(codec, 1024)


@pytest.mark.parametrize(("number", "until"), [(-1, 0), (1, 3), (1, 2), (3, None), (1, 0), (-1, -1), (3, 3)])
def test_there_are_no_links_to_elsewhere(number: int, until: int | None) -> None:
    chain = DeltaChain(torch.zeros(300), "int8", keep=3)
    chain.advance(torch.ones(300))
    assert chain.since(number, until) is None


def test_a_reader_may_stop_before_the_newest_link() -> None:
    chain = DeltaChain(torch.zeros(300), "int8", keep=5)
    held = []
    for _ in range(5):
        held.append(chain.latest.clone())
        chain.advance(torch.randn(300))
    mine = held[1].clone()
    links = chain.since(1, 3)
    assert links is not None
    follow(mine, links)
    np.testing.assert_array_equal(mine.numpy(), held[3].numpy())


def test_a_constant_vector_is_reached() -> None:
    aim = torch.randn(1000)
    chain = DeltaChain(torch.zeros(1000), "int8", keep=3)
    for _ in range(5):
        chain.advance(aim)
    torch.testing.assert_close(chain.latest, aim, rtol=0, atol=1e-7)


@pytest.mark.parametrize("codec", CODECS)
def test_weights_that_are_not_finite_make_no_link(codec: DeltaCodec) -> None:
    chain = DeltaChain(torch.ones(3), codec, keep=3)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            chain.advance(torch.tensor([1.0, bad, 1.0]))
    assert chain.number == 0
    assert chain.latest.tolist() == [1.0, 1.0, 1.0]


def test_links_that_cant_be_decoded_change_nothing() -> None:
    chain = DeltaChain(torch.zeros(300), "int8", keep=3)
    for _ in range(3):
        chain.advance(torch.randn(300))
    links = chain.since(0)
    assert links is not None
    spoiled = copy.copy(links)
    spoiled[2] = replace(links[2], extra=None)
    mine = torch.zeros(300)
    with pytest.raises(ValueError, match="scales are missing"):
        follow(mine, spoiled)
    assert not mine.any(), "not even the first two"
    with pytest.raises(ValueError, match="300 numbers instead of 299"):
        follow(torch.zeros(299), links)
