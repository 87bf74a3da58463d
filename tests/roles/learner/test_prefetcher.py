"""Feeding: so much is ready and no more, what waiting costs is told, and the end of the run ends it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from actorq.actors import Actor, Refused, Stopping, System
from actorq.roles.learner.prefetcher import Prefetcher
from actorq.testing import Record
from tests.actors.world import fresh, spec
from tests.roles.actors import Watch

pytestmark = pytest.mark.anyio


class Eater(Actor):
    """Takes what it is fed, `meals` times, and computes on each; tells what waiting cost it after each."""

    ahead: ClassVar[int] = 1
    meals: ClassVar[int] = 0
    fetch_seconds: ClassVar[float] = 0.0
    compute_seconds: ClassVar[float] = 0.0
    refusal: ClassVar[Refused | None] = None
    """Why the third fetch is refused."""
    fetched: ClassVar[Record[int]]
    eaten: ClassVar[Record[int]]

    async def run(self) -> None:
        feeding = Prefetcher(self, self._fetch, self.ahead)
        for _ in range(self.meals):
            meal = await feeding.next()
            self.report("waiting_share", feeding.take_waiting_share())
            await self.sleep(self.compute_seconds)
            self.eaten.add(meal)
        await self.event().wait()

    async def _fetch(self) -> int:
        await self.sleep(self.fetch_seconds)
        number = len(self.fetched.entries)
        if self.refusal is not None and number == 2:
            self.fetched.add(-1)
            raise self.refusal
        self.fetched.add(number)
        return number


def eater(**values: object) -> type[Eater]:
    return fresh(Eater, fetched=Record(), eaten=Record(), **values)


@pytest.mark.parametrize("ahead", [1, 3])
async def test_so_many_are_ready_and_no_more_are_fetched(ahead: int) -> None:
    """One second to fetch, and a hundred to compute: there is all the time to fetch more."""
    cls = eater(ahead=ahead, meals=4, fetch_seconds=1.0, compute_seconds=100.0)
    async with System([spec("eater", cls)], deterministic=True):
        for meals in range(1, 5):
            await cls.eaten.reaches(meals)
            assert len(cls.fetched.entries) == meals + ahead
    assert cls.eaten.entries == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("fetch_seconds", "compute_seconds", "share"), [(3.0, 1.0, 2 / 3), (2.0, 2.0, 0.0), (1.0, 3.0, 0.0)]
)
async def test_the_share_of_waiting_is_what_fetching_takes_longer_than_computing(
    fetch_seconds: float, compute_seconds: float, share: float
) -> None:
    watch = Watch()
    cls = eater(meals=6, fetch_seconds=fetch_seconds, compute_seconds=compute_seconds)
    async with System([spec("eater", cls)], deterministic=True, reports=watch):
        await cls.eaten.reaches(6)
    assert watch.all_of("waiting_share")[1:] == pytest.approx([share] * 5)


async def test_refused_because_the_run_stops_it_fetches_no_more() -> None:
    cls = eater(meals=3, refusal=Stopping())
    async with System([spec("eater", cls)], deterministic=True) as system:
        await cls.eaten.reaches(2)
        await cls.fetched.has(-1)
    assert cls.fetched.entries == [0, 1, -1]
    assert cls.eaten.entries == [0, 1]
    assert system.statistics().restarts == 0


async def test_refused_for_any_other_reason_is_its_owners_crash() -> None:
    cls = eater(meals=3, refusal=Refused("it is too large"))
    async with System([spec("eater", cls)], deterministic=True) as system:
        await cls.fetched.reaches(6)  # the second life goes on
    assert system.statistics().restarts == 1
