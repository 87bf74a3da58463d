"""Prefetcher: a bounded number of results ahead, in order; the share of waiting; the end of the run."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import anyio
import pytest

from actorq.actors import Actor, Refused, Stopping, System
from actorq.actors.sync import Prefetcher
from actorq.testing import Record, run_virtually
from tests.actors.sync.stand_in import Backend, actor_in
from tests.actors.world import fresh, spec
from tests.roles.actors import Watch

pytestmark = pytest.mark.anyio


class Consumer(Actor):
    """Takes `takes` results, and computes on each; reports the share of waiting after each."""

    ahead: ClassVar[int] = 1
    takes: ClassVar[int] = 0
    fetch_seconds: ClassVar[float] = 0.0
    compute_seconds: ClassVar[float] = 0.0
    refusal: ClassVar[Refused | None] = None
    """Why the third fetch is refused."""
    fetched: ClassVar[Record[int]]
    taken: ClassVar[Record[int]]

    async def run(self) -> None:
        prefetcher = Prefetcher(self, self._fetch, self.ahead)
        for _ in range(self.takes):
            result = await prefetcher.next()
            self.report("waiting_share", prefetcher.take_waiting_share())
            await self.sleep(self.compute_seconds)
            self.taken.add(result)
        await self.event().wait()

    async def _fetch(self) -> int:
        await self.sleep(self.fetch_seconds)
        number = len(self.fetched.entries)
        if self.refusal is not None and number == 2:
            self.fetched.add(-1)
            raise self.refusal
        self.fetched.add(number)
        return number


def consumer(**values: object) -> type[Consumer]:
    return fresh(Consumer, fetched=Record(), taken=Record(), **values)


@pytest.mark.parametrize("ahead", [1, 3])
async def test_so_many_are_ready_and_no_more_are_fetched(ahead: int) -> None:
    """One second to fetch, and a hundred to compute: there is all the time to fetch more."""
    cls = consumer(ahead=ahead, takes=4, fetch_seconds=1.0, compute_seconds=100.0)
    async with System([spec("consumer", cls)], deterministic=True):
        for number in range(1, 5):
            await cls.taken.reaches(number)
            assert len(cls.fetched.entries) == number + ahead
    assert cls.taken.entries == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("fetch_seconds", "compute_seconds", "share"), [(3.0, 1.0, 2 / 3), (2.0, 2.0, 0.0), (1.0, 3.0, 0.0)]
)
async def test_the_share_of_waiting_is_what_fetching_takes_longer_than_computing(
    fetch_seconds: float, compute_seconds: float, share: float
) -> None:
    watch = Watch()
    cls = consumer(takes=6, fetch_seconds=fetch_seconds, compute_seconds=compute_seconds)
    async with System([spec("consumer", cls)], deterministic=True, reports=watch):
        await cls.taken.reaches(6)
    assert watch.all_of("waiting_share")[1:] == pytest.approx([share] * 5)


async def test_once_a_call_raises_stopping_there_is_no_further_one() -> None:
    cls = consumer(takes=3, refusal=Stopping())
    async with System([spec("consumer", cls)], deterministic=True) as system:
        await cls.taken.reaches(2)
        await cls.fetched.has(-1)
    assert cls.fetched.entries == [0, 1, -1]
    assert cls.taken.entries == [0, 1]
    assert system.statistics().restarts == 0


async def test_any_other_error_is_a_crash_of_the_actor() -> None:
    cls = consumer(takes=3, refusal=Refused("it is too large"))
    async with System([spec("consumer", cls)], deterministic=True) as system:
        await cls.fetched.reaches(6)  # the second incarnation continues
    assert system.statistics().restarts == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_results_come_in_the_order_of_the_calls(backend: Backend) -> None:
    """Though the later ones are there first; and a cancelled `next` loses none."""

    async def taken() -> list[tuple[float, int]]:
        found, numbers = list[tuple[float, int]](), count()

        async def fetch() -> int:
            number = next(numbers)
            await anyio.sleep(10 - 3 * number if number < 3 else 100)
            return number

        async with anyio.create_task_group() as tasks:
            prefetcher = Prefetcher(actor_in(tasks), fetch, 3)
            with anyio.move_on_after(0.5):
                await prefetcher.next()  # before its first result
            for _ in range(3):
                number = await prefetcher.next()
                found.append((anyio.current_time(), number))
            tasks.cancel_scope.cancel()
        return found

    assert run_virtually(backend, taken) == [(10.0, 0), (10.0, 1), (10.0, 2)]
