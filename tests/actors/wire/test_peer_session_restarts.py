"""Peer session over restarts of a node: each message is settled once, as by a naive twin."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.runtime.envelope import Envelope, Outcome
from tests.actors.linked_sessions import Sides
from tests.actors.messages import Add, Echo, Text, Weights

HANDLED, REFUSED, SUPERSEDED = Outcome.HANDLED, Outcome.REFUSED, Outcome.SUPERSEDED
UNDELIVERED, IN_DOUBT = Outcome.UNDELIVERED, Outcome.IN_DOUBT

ENDINGS: list[tuple[Outcome, Any]] = [(HANDLED, Text("")), (REFUSED, "not today"), (IN_DOUBT, "crashed")]


class Twin:
    """All that is to be known of one message."""

    def __init__(self, number: int, envelope: Envelope) -> None:
        self.number = number
        self.envelope = envelope
        self.latest = isinstance(envelope.message, Weights)
        self.sendable = not isinstance(envelope.message, Text)
        self.sent = self.begun = self.answered = False
        self.may_end: set[Outcome] = set()
        self.must_end = False

    def dies(self, with_page: bool) -> None:
        """Of a node that has died, or was told that its messages come back."""
        ask = self.envelope.wants_reply
        self.must_end = True
        if self.sent and (not with_page or (self.begun and not self.answered)):
            self.may_end = {IN_DOUBT}
        elif self.answered:
            self.may_end = {IN_DOUBT} if ask else {HANDLED, *(self.may_end & {SUPERSEDED})}
        elif ask:
            self.may_end = {UNDELIVERED}
        else:
            self.must_end = self.sent = False


class Incarnations:
    """Messages are sent, received, handled and answered when the test decides; then the other node ends."""

    def __init__(self) -> None:
        self.sides = Sides().peer_up(is_open=False)
        self.twins: list[Twin] = []
        self.in_progress: Twin | None = None
        self.alive, self.retired = True, False
        self.last_begun = -1

    def waiting(self) -> list[Twin]:
        """Those that have not ended."""
        over = {envelope for envelope, _, _ in self.sides.sender.ended}
        return [twin for twin in self.twins if twin.envelope not in over]

    def twin_of(self, message: Any) -> Twin:
        number = message.amount if isinstance(message, Add) else None
        number = message.version if isinstance(message, Weights) else number
        return self.twins[int(message.text) if number is None else number]

    # The near side.

    def send(self, kind: str) -> None:
        number = len(self.twins)
        older = [twin for twin in self.waiting() if twin.latest and not twin.sent]
        if kind == "echo":
            envelope = self.sides.ask(Echo(str(number)))
        else:
            message = {"add": Add(number), "weights": Weights(number)}.get(kind, Text("\ud800"))
            envelope = self.sides.tell(message)
        self.twins.append(Twin(number, envelope))
        if kind == "weights":
            self.supersede(older)
        if self.retired:
            self.come_back()

    def supersede(self, twins: list[Twin]) -> None:
        for twin in twins:
            twin.may_end, twin.must_end = {SUPERSEDED}, True

    def come_back(self) -> None:
        for twin in self.waiting() + self.twins[-1:]:
            if not twin.must_end:
                twin.may_end, twin.must_end = {UNDELIVERED}, True

    def flush(self) -> None:
        """All that waits is on its way."""
        if not self.alive:
            return
        for twin in self.waiting():
            twin.sent = twin.sendable
            if not twin.sendable:
                twin.may_end, twin.must_end = {UNDELIVERED}, True
        self.sides.envelopes.open = True
        self.sides.envelopes.flush()
        self.sides.envelopes.open = False

    def arrive(self) -> None:
        if not self.alive or not self.sides.envelopes.frames:
            return
        unread = self.sides.far.mailbox.messages()
        self.sides.envelopes.deliver()
        gone = [message for message in unread if message not in self.sides.far.mailbox.messages()]
        for message in gone:
            twin = self.twin_of(message)
            twin.may_end, twin.answered = {SUPERSEDED}, True

    # The far side.

    def begin(self) -> None:
        if not self.alive or self.in_progress or not self.sides.far.mailbox.mailbox.queue:
            return
        twin = self.in_progress = self.twin_of(self.sides.far.mailbox.begin().message)
        assert not twin.begun  # what may have begun is never sent again
        assert twin.number > self.last_begun  # and nothing overtakes
        self.last_begun = twin.number
        twin.begun = True

    def end(self, ending: tuple[Outcome, Any]) -> None:
        if not self.alive or self.in_progress is None:
            return
        self.sides.far.mailbox.end(*ending)
        self.in_progress.may_end, self.in_progress.answered = {ending[0]}, True
        self.in_progress = None

    def answers_arrive(self) -> None:
        if not self.alive:
            return
        self.sides.answers.carry()

    # Incarnations.

    def die(self, with_page: bool) -> None:
        if not self.alive:
            return
        waiting = self.waiting()
        for twin in waiting:
            twin.dies(with_page)
        left = [twin for twin in waiting if not twin.must_end and twin.latest]
        self.supersede(left[:-1])
        self.sides.die(with_page)
        self.alive, self.in_progress = False, None

    def die_in_the_cradle(self) -> None:
        if self.alive or self.retired:
            return
        for twin in self.waiting():
            twin.dies(with_page=False)
        self.sides.main.peer_down(None, "it never started")

    def begin_next_incarnation(self) -> None:
        if self.alive or self.retired:
            return
        self.sides.peer_up(is_open=False)
        self.alive = True

    def retire(self) -> None:
        if self.alive or len(self.twins) < 10:
            return
        self.retired = True
        self.come_back()
        self.sides.main.retire("past its restart limit")

    # What holds at all times.

    def each_envelope_ends_once_as_it_may(self) -> None:
        ended = {envelope: outcome for envelope, outcome, _ in self.sides.sender.ended}
        assert len(ended) == len(self.sides.sender.ended)
        for twin in self.twins:
            outcome = ended.get(twin.envelope)
            if outcome is None:
                assert not twin.must_end, (twin.number, twin.may_end)
            else:
                assert outcome in twin.may_end, (twin.number, outcome, twin.may_end)

    def end_all(self) -> None:
        """In the end all have ended."""
        if not self.alive and not self.retired:
            self.begin_next_incarnation()
        if self.alive:
            self.flush()
            while self.sides.envelopes.frames:
                self.arrive()
            if self.in_progress:
                self.end(ENDINGS[0])
            while self.sides.far.mailbox.mailbox.queue:
                self.begin()
                self.end(ENDINGS[0])
            self.answers_arrive()
        self.each_envelope_ends_once_as_it_may()
        assert len(self.sides.sender.ended) == len(self.twins)
        assert self.sides.main.quiet


kinds = st.sampled_from(["add", "add", "add", "weights", "echo", "unsendable"])
steps = st.one_of(
    *[st.tuples(st.just("send"), kinds)] * 3,
    st.tuples(st.just("flush")),
    st.tuples(st.just("arrive")),
    *[st.tuples(st.just("begin"))] * 2,
    *[st.tuples(st.just("end"), st.sampled_from(ENDINGS))] * 2,
    st.tuples(st.just("answers_arrive")),
    st.tuples(st.just("die"), st.sampled_from([True, True, False])),
    st.tuples(st.just("die_in_the_cradle")),
    *[st.tuples(st.just("begin_next_incarnation"))] * 2,
    st.tuples(st.just("retire")),
)


@settings(max_examples=200)
@given(st.lists(steps, min_size=10, max_size=50))
def test_each_envelope_ends_once_as_the_twin_says(taken: list[Any]) -> None:
    incarnations = Incarnations()
    for name, *arguments in taken:
        getattr(incarnations, name)(*arguments)
        incarnations.each_envelope_ends_once_as_it_may()
    incarnations.end_all()
