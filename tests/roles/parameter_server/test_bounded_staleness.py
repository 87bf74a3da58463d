"""Bounded staleness in a run in which one worker is ten times as slow as the others."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import System
from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from tests.actors.world import AT_ONCE, fresh
from tests.roles.actors import Watch
from tests.roles.topologies import Diligent, crew

pytestmark = pytest.mark.anyio

AGENT = Agent(hidden=(4,), batch_size=4)
WORKERS = 4


class Unequal(Diligent):
    """Computes for so many seconds; the first worker may be slower."""

    seconds: ClassVar[float] = 0.001
    slowness: ClassVar[float] = 1.0

    async def _learn_from(self, batch: Batch) -> None:
        await self.sleep(self.seconds * (self.slowness if self.index == 0 else 1.0))
        await super()._learn_from(batch)


class Stalenesses(Watch):
    """All of them, be they reported or observed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def gauge(self, actor: str, name: str, value: float) -> None:
        super().gauge(actor, name, value)
        self._note(name, value)

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        super().observe(actor, name, values)
        self._note(name, *np.atleast_1d(values))

    def _note(self, name: str, *values: float) -> None:
        if name == "staleness":
            self.seen += values


async def stalenesses(
    updates: int, slowness: float, *, deterministic: bool = False, **settings: Any
) -> list[float]:
    """Of every gradient that was applied."""
    watch = Stalenesses()
    specs = crew(fresh(Unequal, slowness=slowness), WORKERS, 2, AGENT, **settings)
    async with System(specs, AT_ONCE, deterministic=deterministic, reports=watch) as system:
        await watch.progress.has(("updates", updates))
    assert not system.statistics().dead_letters
    assert len(watch.seen) == watch.counts["gradients_accepted"] >= updates
    return watch.seen


@pytest.mark.parametrize(("bound", "updates"), [(0, 20), (1, 30), (4, 100)])
async def test_bounded_never_passes_its_bound(bound: int, updates: int) -> None:
    seen = await stalenesses(updates, 10.0, deterministic=True, rule="bounded", max_staleness=bound)
    assert max(seen) == bound, "it is reached: the fast ones have waited for the slow one"


async def test_without_a_bound_the_slow_one_is_left_behind() -> None:
    assert max(await stalenesses(100, 10.0, deterministic=True)) > 20


@pytest.mark.parametrize("n", [1, 2, 4])
async def test_softsync_is_about_n_stale_on_average(n: int) -> None:
    seen = await stalenesses(150, 1.0, deterministic=True, rule="softsync", softsync_n=n)
    assert abs(np.mean(seen[WORKERS:]) - n) <= 1
