"""Peer session: every message between two nodes is settled once."""

from typing import Any

import numpy as np
import pytest

from actorq.actors.runtime.envelope import Outcome
from actorq.actors.wire.codec import LARGE_BYTES, MAX_ENVELOPES
from actorq.actors.wire.peer_session import ENVELOPES_PER_INCARNATION, MAX_PROBES
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.reply_buffer import FRAME_BYTES, MAX_ENDED, MAX_REASON, ReceivedRequest
from tests.actors.linked_sessions import Sides, forged, numbers, opened, unsendable
from tests.actors.messages import Add, Block, Echo, GetTotal, Measure, Nothing, Text, Total, Weights

HANDLED, REFUSED, SUPERSEDED = Outcome.HANDLED, Outcome.REFUSED, Outcome.SUPERSEDED
UNDELIVERED, IN_DOUBT, CIRCULAR = Outcome.UNDELIVERED, Outcome.IN_DOUBT, Outcome.CIRCULAR
WHY = "node far was killed"


@pytest.fixture
def sides() -> Sides:
    return Sides().peer_up()


@pytest.fixture
def apart() -> Sides:
    """Nothing can be sent for now."""
    return Sides().peer_up(is_open=False)


# Messages.


def test_envelopes_arrive_in_order(sides: Sides) -> None:
    for number in range(10):
        sides.tell(Add(number))
        if number % 3 == 0:
            sides.carry()
    sides.tell(Text("last"))
    assert sides.received() == [*map(Add, range(10)), Text("last")]
    envelopes = list(sides.far.mailbox.mailbox.queue)
    assert numbers(envelopes) == list(range(1, 12))
    assert {(envelope.sender, envelope.target, envelope.source) for envelope in envelopes} == {
        ("boss", "worker", 0)
    }


def test_messages_of_one_turn_share_a_frame(sides: Sides) -> None:
    for number in range(100):
        sides.tell(Add(number))
    assert not sides.envelopes.frames
    sides.envelopes.turn()
    assert len(sides.envelopes.frames) == 1


def test_an_ask_goes_at_once_with_all_that_waits(sides: Sides) -> None:
    sides.tell(Add(1))
    sides.ask(GetTotal())
    sides.envelopes.deliver()
    assert sides.far.mailbox.messages() == [Add(1), GetTotal()]


def test_a_frame_has_a_bound(apart: Sides) -> None:
    for _ in range(MAX_ENVELOPES + 1):
        apart.tell(Add(1))
    for _ in range(3):
        apart.tell(Text("x"), size=FRAME_BYTES // 2)
    opened(apart)
    assert len(apart.envelopes.frames) == 3
    assert len(apart.received()) == MAX_ENVELOPES + 4


def test_envelopes_keep_their_chain_and_their_size(sides: Sides) -> None:
    sides.tell(Text("long"), size=1234)
    sides.ask(GetTotal(), ("outside", "boss"))
    sides.carry()
    told, asked = sides.far.mailbox.mailbox.queue
    assert (told.size, told.chain, told.wants_reply) == (1234, (), False)
    assert (asked.size, asked.chain, asked.wants_reply) == (64, ("outside", "boss"), True)
    assert isinstance(asked, ReceivedRequest)


def test_only_the_newest_is_sent(apart: Sides) -> None:
    apart.tell(Weights(1))
    apart.tell(Add(1))
    apart.tell(Weights(2))
    apart.tell(Weights(3))
    assert apart.sender.outcomes() == [(SUPERSEDED, None)] * 2
    opened(apart)
    assert apart.received() == [Add(1), Weights(3)]
    apart.tell(Weights(4))
    assert apart.sender.outcomes() == []  # the one before it is on its way
    opened(apart)
    assert apart.received() == [Add(1), Weights(4)]
    apart.carry()
    assert [outcome for outcome, _ in apart.sender.outcomes()] == [SUPERSEDED]
    assert all(not envelope.charged for envelope in list(apart.far.mailbox.mailbox.queue)[1:])


def test_the_numbers_of_a_later_incarnation_are_higher() -> None:
    for ordinal in (0, 1, 5):
        sides = Sides(incarnation=(99 << 12) | ordinal).peer_up()
        sides.tell(Add(1))
        sides.carry()
        assert numbers(list(sides.far.mailbox.mailbox.queue)) == [ordinal * ENVELOPES_PER_INCARNATION + 1]


# Outcomes.


def test_every_outcome_of_a_tell_comes_back(sides: Sides) -> None:
    endings: list[tuple[Outcome, Any]] = [
        (HANDLED, None),
        (REFUSED, "not today"),
        (IN_DOUBT, "crashed in add"),
        (UNDELIVERED, "worker is buried"),
        (SUPERSEDED, ""),
        (HANDLED, None),
    ]
    sent = [sides.tell(Add(number)) for number in range(len(endings))]
    sides.carry()
    for ending in endings:
        sides.far.mailbox.handle(*ending)
    assert not sides.answers.frames  # they go with the turn
    assert not sides.main.quiet
    sides.carry()
    ended = {envelope: (outcome, answer) for envelope, outcome, answer in sides.sender.ended}
    assert [ended[envelope] for envelope in sent] == endings
    assert sides.main.quiet


def test_every_outcome_of_an_ask_comes_back(sides: Sides) -> None:
    endings: list[tuple[Outcome, Any]] = [
        (HANDLED, Text("reply")),
        (REFUSED, "not today"),
        (IN_DOUBT, "crashed in echo"),
        (UNDELIVERED, "worker is buried"),
        (CIRCULAR, ("boss", "worker", "boss")),
    ]
    for ending in endings:
        sides.ask(Echo("request"))
        sides.carry()
        sides.far.mailbox.handle(*ending)
        sides.answers.deliver()  # at once
        assert sides.sender.outcomes() == [ending]


def test_a_request_may_be_answered_with_nothing(sides: Sides) -> None:
    sides.ask(Nothing())
    sides.carry()
    sides.far.mailbox.handle()
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, None)]


def test_a_request_that_was_told_needs_no_reply(sides: Sides) -> None:
    sides.tell(GetTotal())
    sides.carry()
    sides.far.mailbox.handle(HANDLED, Total(3))
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, None)]


def test_handled_messages_are_reported_as_ranges(sides: Sides) -> None:
    for number in range(1000):
        sides.tell(Add(number))
    sides.carry()
    for _ in range(1000):
        sides.far.mailbox.handle()
    sides.answers.turn()
    assert len(sides.answers.frames[0]) < 50
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, None)] * 1000


def test_replies_do_not_wait_for_handlers_before_them(sides: Sides) -> None:
    sides.ask(Echo("first"))
    sides.ask(Echo("second"))
    sides.carry()
    mailbox = sides.far.mailbox.mailbox
    first, second = mailbox.take(), mailbox.take()
    second.reply_to.settle(second, HANDLED, Text("second"))
    first.reply_to.settle(first, HANDLED, Text("first"))
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, Text("second")), (HANDLED, Text("first"))]


def test_replies_that_are_too_much_for_one_frame_take_several(sides: Sides) -> None:
    sides.answers.open = False
    text = "x" * (FRAME_BYTES // 2 + 1)
    for _ in range(3):
        sides.ask(Echo(""))
        sides.carry()
        sides.far.mailbox.handle(HANDLED, Text(text))
    sides.answers.open = True
    sides.answers.flush()
    assert len(sides.answers.frames) == 3
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, Text(text))] * 3


def test_endings_that_are_too_many_for_one_frame_take_several(sides: Sides) -> None:
    for number in range(MAX_ENDED + 1):
        sides.tell(Add(number))
    sides.carry()
    for number in range(MAX_ENDED + 1):
        sides.far.mailbox.handle(REFUSED, f"\N{SNOWMAN}{number} " * 1000)
    sides.answers.turn()
    assert len(sides.answers.frames) == 2
    sides.carry()
    reasons = [str(answer) for _, answer in sides.sender.outcomes()]
    assert [reason.split()[0] for reason in reasons] == [f"\N{SNOWMAN}{n}" for n in range(MAX_ENDED + 1)]
    assert {len(reason) for reason in reasons} == {MAX_REASON}


def test_any_reason_can_be_sent(sides: Sides) -> None:
    sides.ask(Echo(""))
    sides.carry()
    sides.far.mailbox.handle(REFUSED, "no file \udcff")
    sides.carry()
    assert sides.sender.outcomes() == [(REFUSED, "no file \\udcff")]


# A peer that is broken.


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"handled": [1, 3]}, "far settles 3 messages; 2 are unsettled"),
        ({"handled": [1, 2**63]}, "2 are unsettled"),
        ({"handled": [2, 1]}, "far reports 2 as handled, without the reply"),
        ({"replies": [[1, 0, [1]]]}, "far replies to 1, which is no request"),
        ({"replies": [[3, 0, [1]]]}, "far replies to 3, which is no request"),
        ({"replies": [[2, 1, [1]]]}, "has a type that the request doesn't declare"),
        ({"probes": [[1, 0, ["boss"]]]}, "far probes a wait on route 0 of 0"),
    ],
)
def test_answers_to_what_was_not_asked(sides: Sides, answers: Any, sentence: str) -> None:
    sides.tell(Add(1))
    sides.ask(GetTotal())
    with pytest.raises(WireError, match=sentence):
        sides.main.answers_received(forged(**answers))
    ended = len(sides.sender.ended)
    sides.die(with_page=False)
    assert len(sides.sender.ended) == 2
    assert ended < 2


def test_an_answer_that_comes_twice_ends_an_envelope_once(sides: Sides) -> None:
    sides.tell(Add(1))
    sides.tell(Add(2))
    sides.carry()
    for _ in range(2):
        sides.main.answers_received(forged(handled=[1, 1], ended=[[1, "refused", "", []]]))
    assert sides.sender.outcomes() == [(HANDLED, None)]


# Waits whose circle is looked for.


def test_a_probe_crosses_and_comes_back(sides: Sides) -> None:
    found: list[tuple[str, ...]] = []
    sides.main.probe("worker", Add, ("boss",), found.append)
    sides.carry()
    ((target, message, chain, back),) = sides.far.mailbox.probes
    assert (target, message, chain) == ("worker", Add, ("boss",))
    back(("boss", "worker", "boss"))
    back(("once", "more"))
    sides.carry()
    assert found == [("boss", "worker", "boss")]


def test_a_probe_does_not_wait_behind_envelopes(apart: Sides) -> None:
    apart.tell(Add(1))
    apart.main.probe("worker", Add, ("boss",), lambda chain: None)
    apart.far_answers.deliver()
    assert apart.far.mailbox.probes
    assert not apart.envelopes.frames


def test_probes_are_forgotten_in_the_end(sides: Sides) -> None:
    found: list[int] = []

    def looking(number: int) -> Any:
        return lambda chain: found.append(number)

    for number in range(MAX_PROBES + 1):
        sides.main.probe("worker", Add, ("boss",), looking(number))
    sides.carry()
    for *_, back in sides.far.mailbox.probes:
        back(("boss", "worker", "boss"))
    sides.carry()
    assert found == list(range(1, MAX_PROBES + 1))


# Shared memory.


class Shared:
    """Blocks that one side lends to the other."""

    def __init__(self) -> None:
        self.lent: dict[int, bytes] = {}
        self.let_go: list[int] = []
        self.other: Shared | None = None

    def lend(self, array: Any) -> int | None:
        offset = 64 * (1 + len(self.lent))
        self.lent[offset] = array.tobytes()
        return offset

    def freed(self, offset: int) -> None:
        if self.lent.pop(offset, None) is None:
            raise WireError(f"{offset} is not lent")

    def borrow(self, offset: int, nbytes: int) -> Any:
        assert self.other is not None
        return memoryview(self.other.lent[offset])[:nbytes]

    def take_let_go(self) -> list[int]:
        taken, self.let_go = self.let_go, []
        return taken


@pytest.fixture
def shared() -> tuple[Sides, Shared, Shared]:
    here, there = Shared(), Shared()
    here.other, there.other = there, here
    return Sides().peer_up(here=here, there=there), here, there


LARGE = np.arange(LARGE_BYTES / 8)


def test_large_arrays_go_by_shared_memory(shared: tuple[Sides, Shared, Shared]) -> None:
    sides, here, there = shared
    sides.ask(Measure(LARGE))
    (request,) = sides.received()
    assert isinstance(request, Measure)
    assert np.shares_memory(request.data, np.frombuffer(here.lent[64]))
    there.let_go.append(64)
    sides.far.peer_session.let_go()
    sides.carry()
    assert not here.lent
    with pytest.raises(WireError, match="64 is not lent"):
        sides.main.answers_received(forged(freed=[64]))


def test_what_is_let_go_goes_with_the_next_answers(shared: tuple[Sides, Shared, Shared]) -> None:
    sides, here, there = shared
    sides.tell(Block(LARGE))
    sides.carry()
    there.let_go.append(64)
    sides.far.mailbox.handle()
    sides.answers.turn()
    assert len(sides.answers.frames) == 1
    sides.carry()
    assert not here.lent
    assert sides.sender.outcomes() == [(HANDLED, None)]


def test_nothing_stays_lent_for_a_frame_that_fails(shared: tuple[Sides, Shared, Shared]) -> None:
    sides, here, _ = shared
    sides.tell(Block(LARGE))
    sides.tell(unsendable())
    assert len(sides.received()) == 1
    assert len(here.lent) == 1


def test_a_successor_is_lent_its_own(shared: tuple[Sides, Shared, Shared]) -> None:
    sides, here, _ = shared
    sides.tell(Block(LARGE))
    sides.carry()
    sides.die()
    here.lent.clear()
    sides.peer_up()
    (block,) = sides.received()
    assert isinstance(block, Block)
    assert not here.lent  # no memory is shared with this one
    assert block.data.tobytes() == LARGE.tobytes()
