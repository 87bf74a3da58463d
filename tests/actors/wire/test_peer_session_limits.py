"""Peer session: messages that can't be encoded are returned with the reason, without affecting others."""

from typing import Any

import numpy as np
import pytest

from actorq.actors.runtime.envelope import Outcome
from actorq.actors.wire.codec import MAX_ENVELOPES, MAX_HEADER_BYTES
from tests.actors.linked_sessions import MAX_FRAME_BYTES, Sides, opened, unsendable
from tests.actors.messages import Add, Block, Echo, GetTotal, Text, Total, Weights

HANDLED, REFUSED, SUPERSEDED = Outcome.HANDLED, Outcome.REFUSED, Outcome.SUPERSEDED
UNDELIVERED = Outcome.UNDELIVERED


@pytest.fixture
def sides() -> Sides:
    return Sides().peer_up()


@pytest.fixture
def apart() -> Sides:
    """Nothing can be sent for now."""
    return Sides().peer_up(is_open=False)


def test_an_envelope_that_cannot_be_serialized_comes_back_and_does_not_hurt_the_others(apart: Sides) -> None:
    wrong = {3, 4, 17, 29}
    sent = [apart.tell(unsendable() if number in wrong else Add(number)) for number in range(30)]
    opened(apart)
    assert apart.received() == [Add(number) for number in range(30) if number not in wrong]
    assert [envelope for envelope, _, _ in apart.sender.ended] == [sent[number] for number in sorted(wrong)]
    for outcome, reason in apart.sender.outcomes():
        assert outcome is UNDELIVERED
        assert reason.startswith("Text can't cross to another process: it can't be encoded: 'utf-8'")
    for _ in range(26):
        apart.far.mailbox.handle()
    apart.carry()
    assert apart.sender.outcomes() == [(HANDLED, None)] * 26
    assert apart.main.quiet


def test_an_ask_that_cannot_be_serialized(sides: Sides) -> None:
    sides.ask(Echo("\ud800"))
    ((outcome, reason),) = sides.sender.outcomes()
    assert (outcome, "can't cross to another process" in reason) == (UNDELIVERED, True)
    assert sides.main.quiet


def test_thousands_that_cannot_be_serialized(apart: Sides) -> None:
    for _ in range(MAX_ENVELOPES):
        apart.tell(unsendable())
    opened(apart)
    assert {outcome for outcome, _ in apart.sender.outcomes()} == {UNDELIVERED}
    assert apart.main.quiet


def test_a_message_that_is_no_request_cannot_be_asked(sides: Sides) -> None:
    request: Any = Add(1)
    sides.ask(request)
    ((outcome, reason),) = sides.sender.outcomes()
    assert (outcome, "it can be told, not asked" in reason) == (UNDELIVERED, True)


def test_envelopes_that_are_too_much_together_go_apart(apart: Sides) -> None:
    """What they are reckoned to take need not be what they take."""
    texts = [Text("x" * (MAX_HEADER_BYTES // 2 - 100)) for _ in range(3)]
    for text in texts:
        apart.tell(text)
    apart.tell(Weights(1))
    opened(apart)
    assert len(apart.envelopes.frames) > 1
    apart.tell(Weights(2))
    assert apart.sender.outcomes() == []
    opened(apart)
    assert apart.received() == [*texts, Weights(2)]


def test_a_latest_envelope_put_back_is_still_superseded(apart: Sides) -> None:
    apart.tell(Weights(1))
    apart.tell(unsendable())
    apart.envelopes.next_frame()  # takes the first alone, for the second can't be serialized
    apart.tell(Weights(2))
    apart.tell(Weights(3))
    assert [outcome for outcome, _ in apart.sender.outcomes()] == [SUPERSEDED]
    opened(apart)
    assert [outcome for outcome, _ in apart.sender.outcomes()] == [UNDELIVERED]


def test_replies_that_are_too_much_together_go_apart(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actorq.actors.wire.reply_buffer.seal", lambda answer: 1)
    sides.answers.open = False
    text = "x" * (MAX_HEADER_BYTES // 2)
    for _ in range(3):
        sides.ask(Echo(""))
        sides.carry()
        sides.far.mailbox.handle(HANDLED, Text(text))
    sides.answers.open = True
    sides.answers.flush()
    sides.carry()
    assert sides.sender.outcomes() == [(HANDLED, Text(text))] * 3


def test_a_reply_that_cannot_be_serialized_is_a_refusal(sides: Sides) -> None:
    sides.answers.open = False
    for answer in (Text("first"), unsendable(), Text("third")):
        sides.ask(Echo(""))
        sides.carry()
        sides.far.mailbox.handle(HANDLED, answer)
    sides.answers.open = True
    sides.answers.flush()
    sides.carry()
    outcomes = sides.sender.outcomes()
    assert [ending for ending in outcomes if ending[0] is HANDLED] == [
        (HANDLED, Text("first")),
        (HANDLED, Text("third")),
    ]
    ((_, reason),) = [ending for ending in outcomes if ending[0] is REFUSED]
    assert reason.startswith("the reply, Text, can't cross to another process: it can't be encoded")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Total(1), "the reply is a Total; to another process only Text itself can go"),
        (None, "the reply is a NoneType"),
        (Text("x" * MAX_FRAME_BYTES), "bytes is too large for a frame of"),
    ],
    ids=["another", "none", "huge"],
)
def test_a_wrong_reply_is_a_refusal(sides: Sides, answer: Any, sentence: str) -> None:
    sides.ask(Echo(""))
    sides.carry()
    sides.far.mailbox.handle(HANDLED, answer)
    sides.carry()
    ((outcome, reason),) = sides.sender.outcomes()
    assert outcome is REFUSED
    assert sentence in reason


def test_an_undecodable_envelope_is_undelivered(sides: Sides) -> None:
    wrong: Any = np.zeros(3, np.float32)
    sides.tell(Add(1))
    sides.tell(Block(wrong))
    sides.tell(Block(np.zeros(3)))
    assert len(sides.received()) == 2
    sides.carry()
    ((outcome, reason),) = sides.sender.outcomes()
    assert outcome is UNDELIVERED
    assert "Block can't be decoded: Expected an array of float64, got float32" in reason


def test_an_undecodable_reply_is_a_refusal(sides: Sides) -> None:
    sides.ask(GetTotal())
    sides.carry()
    wrong: Any = "text"
    sides.far.mailbox.handle(HANDLED, Total(wrong))
    sides.carry()
    ((outcome, reason),) = sides.sender.outcomes()
    assert outcome is REFUSED
    assert "the reply can't be decoded: Expected `int`, got `str`" in reason
