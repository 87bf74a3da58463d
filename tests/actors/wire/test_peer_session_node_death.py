"""Peer session: outcomes of messages, started or not, when their node dies."""

from typing import Any

import anyio
import pytest

from actorq.actors.runtime.envelope import Outcome
from tests.actors.linked_sessions import Sides, forged, numbers, opened, unsendable
from tests.actors.messages import Add, Echo, GetTotal, Text, Weights

HANDLED, REFUSED, SUPERSEDED = Outcome.HANDLED, Outcome.REFUSED, Outcome.SUPERSEDED
UNDELIVERED, IN_DOUBT = Outcome.UNDELIVERED, Outcome.IN_DOUBT
WHY = "node far was killed"


@pytest.fixture
def sides() -> Sides:
    return Sides().peer_up()


# Death.


def test_what_was_not_begun_goes_to_the_successor(sides: Sides) -> None:
    for number in range(6):
        sides.tell(Add(number))
    sides.envelopes.turn()
    sides.envelopes.deliver()
    sides.tell(Add(6))
    sides.envelopes.turn()  # on its way
    sides.tell(Add(7))  # not yet
    sides.far.mailbox.handle()  # answered, but the answer is lost
    sides.far.mailbox.handle()
    sides.far.mailbox.begin()
    sides.die()
    assert sides.sender.outcomes() == [(HANDLED, None), (HANDLED, None), (IN_DOUBT, WHY)]
    sides.tell(Add(8))
    sides.peer_up()
    assert sides.received() == [Add(number) for number in range(3, 9)]
    assert numbers(list(sides.far.mailbox.mailbox.queue)) == list(range(8, 14))


def test_without_a_page_whatever_was_sent_is_in_doubt(sides: Sides) -> None:
    sides.tell(Add(1))
    sides.carry()
    sides.ask(GetTotal())
    sides.tell(Add(2))
    sides.die(with_page=False)
    assert sides.sender.outcomes() == [(IN_DOUBT, WHY), (IN_DOUBT, WHY)]
    sides.peer_up()
    assert sides.received() == [Add(2)]


def test_asks_fail_with_the_node(sides: Sides) -> None:
    for text in ("done", "at hand", "unread"):
        sides.ask(Echo(text))
    sides.carry()
    sides.far.mailbox.handle(HANDLED, Text("lost"))
    sides.far.mailbox.begin()
    sides.envelopes.open = False
    sides.ask(Echo("unsent"))
    sides.die()
    assert sides.sender.outcomes() == [
        (IN_DOUBT, f"{WHY}, and the reply was lost with it"),
        (IN_DOUBT, WHY),
        (UNDELIVERED, WHY),
        (UNDELIVERED, WHY),
    ]
    assert sides.main.quiet


def test_an_ask_after_the_death_waits_for_the_successor(sides: Sides) -> None:
    sides.die()
    sides.ask(Echo("later"))
    assert sides.sender.outcomes() == []
    sides.peer_up()
    assert sides.received() == [Echo("later")]


def test_only_the_newest_goes_to_the_successor(sides: Sides) -> None:
    for version in (1, 2):
        sides.tell(Weights(version))
        sides.envelopes.turn()
    sides.tell(Weights(3))
    sides.die()
    assert sides.sender.outcomes() == [(SUPERSEDED, None)] * 2
    sides.tell(Weights(4))
    assert sides.sender.outcomes() == [(SUPERSEDED, None)]
    sides.peer_up()
    assert sides.received() == [Weights(4)]


def test_answers_of_the_dead_go_nowhere(sides: Sides) -> None:
    """What came from a node that has died is not answered to its successor."""
    sides.tell(Add(1))
    sides.ask(Echo("x"))
    sides.carry()
    first, second = sides.far.mailbox.begin(), sides.far.mailbox.mailbox.take()
    probe_found: list[Any] = []
    sides.main.probe("worker", Add, ("boss",), probe_found.append)
    sides.carry()
    sides.far.peer_session.peer_down(None, "node main was killed")
    sides.far.peer_session.peer_up(sides.far_envelopes, sides.answers, None)
    first.reply_to.settle(first, HANDLED)
    second.reply_to.settle(second, HANDLED, Text("x"))
    sides.far.mailbox.probes[0][3](("boss", "worker", "boss"))
    sides.carry()
    assert sides.sender.outcomes() == []
    assert probe_found == []
    reply_buffer: Any = first.reply_to
    assert not reply_buffer.busy  # nor is it kept


def test_a_probe_of_an_earlier_incarnation_is_not_found(sides: Sides) -> None:
    found: list[Any] = []
    sides.main.probe("worker", Add, ("boss",), found.append)
    sides.die()
    sides.peer_up()
    sides.main.answers_received(forged(found=[[1, ["boss", "worker", "boss"]]]))
    assert found == []


def test_retired_everything_comes_back(sides: Sides) -> None:
    sides.tell(Add(1))
    sides.carry()
    sides.tell(Add(2))
    sides.die()
    sides.main.retire("past its restart limit")
    assert sides.sender.outcomes() == [(UNDELIVERED, "past its restart limit")] * 2
    sides.tell(Add(3))
    sides.ask(GetTotal())
    assert sides.sender.outcomes() == [(UNDELIVERED, "past its restart limit")] * 2
    assert sides.main.quiet


def test_a_second_death_before_the_successor_is_met(sides: Sides) -> None:
    sides.tell(Add(1))
    sides.carry()
    sides.die()
    sides.ask(Echo("x"))
    sides.main.peer_down(None, "the successor never started")
    assert sides.sender.outcomes() == [(UNDELIVERED, "the successor never started")]
    sides.peer_up()
    assert sides.received() == [Add(1)]


# Quiet.


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["handled", "dead", "buried", "unsendable"])
async def test_quieted(sides: Sides, how: str) -> None:
    sides.envelopes.open = False
    sides.tell(unsendable() if how == "unsendable" else Add(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sides.main.quieted)
        await anyio.wait_all_tasks_blocked()
        if how in ("handled", "unsendable"):
            opened(sides)
        sides.carry()
        if how == "handled":
            sides.far.mailbox.handle()
            sides.carry()
        elif how != "unsendable":
            sides.die(with_page=False)
            if how == "buried":
                sides.main.retire("gone")
            else:
                sides.peer_up()
                sides.carry()
                sides.far.mailbox.handle()
                sides.carry()
    assert sides.main.quiet
