"""Readers of a server under load get whole versions: every number in them identifies its version."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import pytest
from numpy.typing import NDArray

from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from actorq.roles.replay.messages import Version
from actorq.testing import Record
from tests.actors.world import TRANSPORTS, World, fresh
from tests.roles.topologies import Diligent, Level, crew

pytestmark = pytest.mark.anyio

# Adam's kernel rounds the last few numbers of a slice otherwise than those before.
AGENT = Agent(hidden=(32, 16), batch_size=1, optimizer="rmsprop", learning_rate=0.01, target_every_updates=3)
WORKERS, SHARDS = 6, 3


class Weighing(Diligent):
    """Pushes gradients of one number, another one each time, or only reads; looks at all it has read."""

    reads: ClassVar[Record[Version]]
    seen: ClassVar[dict[Version, tuple[float, float]]]
    """By version: what each parameter is, and what each of the target's."""

    async def _learn_from(self, batch: Batch) -> None:
        if self.index % 2:
            await self._method.read(computing=False)
        else:
            self._method.online.gradient.fill_(float(batch.returns[0]))
            await self._method.push(loss=0.0)
        version = self._method.version
        assert version is not None
        value = _only(self._method.online.vector.numpy()), _only(self._method.target.vector.numpy())
        assert self.seen.setdefault(version, value) == value
        self.reads.add(version)


def _only(vector: NDArray[Any]) -> float:
    """The number that all of them are."""
    assert vector.min() == vector.max()
    return float(vector[0])


@pytest.mark.parametrize(("transport", "nodes"), [("inproc", 1), ("nng-ipc", 3)])
@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_no_read_is_torn(transport: str, nodes: int, count: int) -> None:
    reads, seen = Record[Version](), dict[Version, tuple[float, float]]()
    specs = crew(fresh(Weighing, reads=reads, seen=seen), WORKERS, SHARDS, AGENT, coordinator=Level)
    async with World(TRANSPORTS[transport], nodes).system(*specs) as system:
        await reads.reaches(count)
    assert not any(actor.crashes for actor in system.statistics().actors)
    assert len(seen) > count / 10
    values = [seen[version] for version in sorted(seen, key=lambda version: version.updates)]
    assert all(one[0] != other[0] for one, other in pairwise(values)), "it would show"
    assert len({target for _, target in values}) > len(values) / 4
