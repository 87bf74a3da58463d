"""Weights reader: one version or none, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from actorq.actors import Group, Refused
from actorq.learning.distributed.deltas import DeltaChain
from actorq.roles.parameter_server.messages import Fetch, Fetched, Pulled
from actorq.roles.parameter_server.weights_reader import WeightsReader
from actorq.roles.replay.messages import Version

pytestmark = pytest.mark.anyio

SIZE = 7  # in slices of 3 and 4
Answer = Callable[[Fetch], Fetched]


class Shards:
    """Stands for a group: each member's answers, and what they were asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Fetch] = []

    def __len__(self) -> int:
        return len(self.answers)

    def all(self) -> Shards:
        return self

    async def ask(self, request: Fetch) -> list[Fetched]:
        self.asked.append(request)
        return [answer(request) for answer in self.answers]


def of(size: int) -> Answer:
    """A shard whose parameters are the updates, and whose target is their negative."""

    def answer(request: Fetch) -> Fetched:
        updates = request.version.updates
        target = None if request.have_target == updates else np.full(size, -updates, np.float32)
        return Fetched(np.full(size, updates, np.float32), (), target)

    return answer


def wrong(array: Any = None, **fields: Any) -> Answer:
    return lambda request: Fetched(**{"whole": array, "deltas": (), "target": None, **fields})


def refusing(request: Fetch) -> Fetched:
    raise Refused("kept no longer")


def reader(*answers: Answer) -> tuple[WeightsReader, Shards]:
    shards = Shards(*(answers or (of(3), of(4))))
    group = cast("Group[Fetch]", shards)
    return WeightsReader(group, 5, torch.full((SIZE,), 0.5), torch.full((SIZE,), 0.5)), shards


def pulled(updates: int, incarnation: int = 1, target: int | None = None) -> Pulled:
    return Pulled(Version(incarnation, updates), updates if target is None else target)


def held(weights: WeightsReader) -> tuple[set[float], set[float]]:
    assert weights._target is not None
    return set(weights.parameters.tolist()), set(weights._target.tolist())


async def test_what_it_has_is_not_fetched_again() -> None:
    weights, shards = reader()
    assert await weights.fetch(pulled(8))
    assert held(weights) == ({8.0}, {-8.0})
    assert not await weights.fetch(pulled(8))
    assert len(shards.asked) == 1
    assert weights.take_bytes() == 2 * SIZE * 4
    assert weights.take_bytes() == 0
    np.testing.assert_array_equal(weights.read(), np.full(SIZE, 8, np.float32))


async def test_it_reports_its_version_within_one_incarnation_only() -> None:
    weights, shards = reader()
    for each in (pulled(8, target=8), pulled(9, target=8), pulled(9, incarnation=2, target=8)):
        await weights.fetch(each)
    assert shards.asked == [
        Fetch(5, Version(1, 8), None, None),
        Fetch(5, Version(1, 9), Version(1, 8), 8),
        Fetch(5, Version(2, 9), None, None),
    ]


@pytest.mark.parametrize(
    "second",
    [
        refusing,
        wrong(np.zeros(3, np.float32)),
        wrong(np.zeros(1, np.float32)),
        wrong(np.zeros(4, np.float64)),
        wrong(np.zeros(4, np.float32), target=np.zeros(5, np.float32)),
    ],
    ids=["refused", "short", "one number", "float64", "long target"],
)
async def test_one_bad_slice_leaves_everything_as_it_was(second: Answer) -> None:
    weights, shards = reader()
    await weights.fetch(pulled(8))
    shards.answers[1] = second
    with pytest.raises((Refused, ValueError)):
        await weights.fetch(pulled(9))
    assert held(weights) == ({8.0}, {-8.0})
    assert weights.version == Version(1, 8)
    shards.answers[1] = of(4)
    assert await weights.fetch(pulled(9))
    assert held(weights) == ({9.0}, {-9.0})


async def test_differences_need_an_earlier_version() -> None:
    weights, _ = reader(of(3), wrong())
    with pytest.raises(ValueError, match="to a reader that has nothing"):
        await weights.fetch(pulled(8))
    assert weights.version is None


async def test_differences_lead_to_what_the_server_has_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(600, generator=generator) for _ in range(4)]
    halves = [vector.chunk(2) for vector in vectors]
    chains = [DeltaChain(first, "float16", keep=8) for first in halves[0]]

    def shard(chain: DeltaChain) -> Answer:
        def answer(request: Fetch) -> Fetched:
            if request.have is None:
                return Fetched(chain.latest.numpy().copy(), (), None)
            return Fetched(None, tuple(chain.since(request.have.updates) or ()), None)

        return answer

    shards = cast("Group[Fetch]", Shards(*map(shard, chains)))
    weights = WeightsReader(shards, -1, torch.zeros(600))
    await weights.fetch(pulled(0))
    for updates in range(1, 4):
        for chain, half in zip(chains, halves[updates], strict=True):
            chain.advance(half)
        weights.take_bytes()
        await weights.fetch(pulled(updates))
        assert torch.equal(weights.parameters, torch.cat([chain.latest for chain in chains]))
        assert weights.take_bytes() == 600 * 2
