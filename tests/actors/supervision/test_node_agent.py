"""Node agent: commands that arrive together, in whatever order its tasks run."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import numpy as np
import pytest

from actorq.actors import Actor, Membership, NodeAgent
from actorq.actors.supervision import control_messages as commands
from actorq.testing import Record
from actorq_nng import NngTransport
from tests.actors.world import fresh, spec

START = commands.Start("a", begun=False, restarts=1)


class Told(Actor):
    """Records its lives."""

    incarnations: ClassVar[Record[str]]

    async def on_start(self) -> None:
        self.incarnations.add("start")

    async def run(self) -> None:
        self.incarnations.add("run")


async def followed(
    cls: type[Actor], *given: commands.Commands, until: type[commands.NodeEvents]
) -> list[Any]:
    """What a node has told when such a node events came, of those about its actor."""
    told: list[Any] = []
    enough = anyio.Event()

    def post(node_event: commands.NodeEvents) -> None:
        told.append(node_event)
        if isinstance(node_event, until):
            enough.set()

    async def giver() -> AsyncIterator[commands.Commands]:
        for order in given:
            yield order
        await enough.wait()
        await anyio.wait_all_tasks_blocked()

    node_agent = NodeAgent(
        {"a": spec("a", cls, node="one")},
        "one",
        transport=NngTransport(),
        membership=Membership(),
        delivery_log=None,
        post=post,
    )
    await node_agent.follow(giver())
    return [
        node_event
        for node_event in told
        if isinstance(node_event, commands.Up | commands.ActorEnded | commands.Observed)
    ]


@pytest.mark.anyio
async def test_begin_right_behind_a_start_begins_its_own_loop() -> None:
    incarnations = Record[str]()
    assert await followed(
        fresh(Told, incarnations=incarnations), START, commands.Begin(), until=commands.Up
    ) == [commands.Up("a")]
    assert incarnations.entries == ["start", "run"]


@pytest.mark.anyio
@pytest.mark.parametrize("end", [commands.HaltActor("a"), commands.Kill("a")], ids=["halt", "kill"])
async def test_an_end_right_behind_a_start_ends_that_incarnation_and_no_other(end: Any) -> None:
    incarnations = Record[str]()
    cls = fresh(Told, incarnations=incarnations)
    ended = commands.ActorEnded("a", told_to_end=True)
    assert await followed(cls, START, end, until=commands.ActorEnded) == [ended]
    assert incarnations.entries == []
    assert await followed(cls, START, end, START, until=commands.Up) == [ended, commands.Up("a")]
    assert incarnations.entries == ["start"]


class Observer(Actor):
    """Observes more, at each start, than should be sent one by one."""

    async def on_start(self) -> None:
        self.observe("age", 2)
        self.observe("age", np.array([3.0, 3.0, np.inf]))


@pytest.mark.anyio
async def test_what_is_observed_is_sent_in_one() -> None:
    up, observed = await followed(Observer, START, until=commands.Up)
    assert up == commands.Up("a")
    age = observed.distribution
    assert (observed.actor, observed.name) == ("a", "age")
    assert (age.count, age.total, age.smallest, age.largest, age.not_finite) == (3, 8.0, 2.0, 3.0, 1)
