"""What a node makes of orders that come in one go, in whatever order its tasks run."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import numpy as np
import pytest

from actorq.actors import Actor, Follower, Membership
from actorq.actors.supervision import control_messages as orders
from actorq.testing import Record
from actorq_nng import NngTransport
from tests.actors.world import fresh, spec

START = orders.Start("a", begun=False, restarts=1)


class Told(Actor):
    """Records its lives."""

    lives: ClassVar[Record[str]]

    async def on_start(self) -> None:
        self.lives.add("start")

    async def run(self) -> None:
        self.lives.add("run")


async def followed(cls: type[Actor], *given: orders.Orders, until: type[orders.Tidings]) -> list[Any]:
    """What a node has told when such a tiding came, of those about its actor."""
    told: list[Any] = []
    enough = anyio.Event()

    def post(tiding: orders.Tidings) -> None:
        told.append(tiding)
        if isinstance(tiding, until):
            enough.set()

    async def giver() -> AsyncIterator[orders.Orders]:
        for order in given:
            yield order
        await enough.wait()
        await anyio.wait_all_tasks_blocked()

    follower = Follower(
        {"a": spec("a", cls, node="one")},
        "one",
        transport=NngTransport(),
        membership=Membership(),
        ledger=None,
        post=post,
    )
    await follower.follow(giver())
    return [tiding for tiding in told if isinstance(tiding, orders.Up | orders.Ended | orders.Observed)]


@pytest.mark.anyio
async def test_begin_right_behind_a_start_begins_its_own_loop() -> None:
    lives = Record[str]()
    assert await followed(fresh(Told, lives=lives), START, orders.Begin(), until=orders.Up) == [
        orders.Up("a")
    ]
    assert lives.entries == ["start", "run"]


@pytest.mark.anyio
@pytest.mark.parametrize("end", [orders.Halt("a"), orders.Kill("a")], ids=["halt", "kill"])
async def test_an_end_right_behind_a_start_ends_that_life_and_no_other(end: Any) -> None:
    lives = Record[str]()
    cls = fresh(Told, lives=lives)
    ended = orders.Ended("a", told_to_end=True)
    assert await followed(cls, START, end, until=orders.Ended) == [ended]
    assert lives.entries == []
    assert await followed(cls, START, end, START, until=orders.Up) == [ended, orders.Up("a")]
    assert lives.entries == ["start"]


class Observer(Actor):
    """Observes more, at each start, than should be sent one by one."""

    async def on_start(self) -> None:
        self.observe("age", 2)
        self.observe("age", np.array([3.0, 3.0, np.inf]))


@pytest.mark.anyio
async def test_what_is_observed_is_sent_in_one() -> None:
    up, observed = await followed(Observer, START, until=orders.Up)
    assert up == orders.Up("a")
    age = observed.distribution
    assert (observed.actor, observed.name) == ("a", "age")
    assert (age.count, age.total, age.smallest, age.largest, age.not_finite) == (3, 8.0, 2.0, 3.0, 1)
