"""Delivery log: a dead node's page has the right state of each message, at whatever moment it died."""

from collections import defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors import Actor, ActorSpec, handles
from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Envelope
from actorq.actors.supervision.delivery_log import (
    CRASHES,
    MAX_NODES,
    MAX_NUMBER,
    WORD,
    DeliveryLog,
    DeliveryState,
    LogLayout,
    QueueLog,
)
from actorq.actors.wire.node_incarnation import ORDINAL_BITS
from actorq.actors.wire.peer_session import ENVELOPES_PER_INCARNATION
from actorq.actors.wire.reply_buffer import Received
from tests.actors.messages import Add, Echo, GetTotal, Text, Total, Visit
from tests.actors.world import spec


class Several(Actor):
    """Add and GetTotal in the mailbox queue that handles one at a time, the others in mailbox queues of
    their own."""

    @handles
    async def add(self, message: Add) -> None:
        pass

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(0)

    @handles(concurrent=1)
    async def echo(self, request: Echo) -> Text:
        return Text("")

    @handles(concurrent=3)
    async def visit(self, request: Visit) -> Total:
        return Total(0)


class Plain(Actor):
    @handles
    async def add(self, message: Add) -> None:
        pass


def specs() -> dict[str, ActorSpec]:
    here = [spec("first", Several, node="here"), spec("second", Plain, node="here")]
    others = [spec("a", Plain, node="other"), spec("b", Several, node="third"), spec("c", Plain, node="main")]
    return {each.name: each for each in (*here, *others)}


LAYOUT = LogLayout(specs(), "here")
SOURCES = ("main", "other", "third")
QUEUES: list[tuple[str, type[Message] | None, int]] = [
    ("first", None, 1),
    ("first", Echo, 1),
    ("first", Visit, 3),
    ("second", None, 1),
]
MESSAGES: list[list[type[Message]]] = [[Add, GetTotal], [Echo], [Visit], [Add]]
"""What goes to each mailbox queue."""


def received(source: int, number: int) -> Received:
    nobody: Any = None
    return Received(Add(1), 0, "", "", nobody, (), True, number, source, 0)


class Page:
    """Words in memory, seen by somebody after each single write."""

    def __init__(self) -> None:
        self._memory = bytearray(LAYOUT.nbytes)
        self._words = memoryview(self._memory).cast("Q")
        self.seen: list[bytes] = []

    def __getitem__(self, key: Any) -> Any:
        return self._words[key]

    def __setitem__(self, key: int, word: int) -> None:
        self._words[key] = word
        self.seen.append(bytes(self._memory))


class Twin:
    """Remembers of each message what has become of it; the delivery log remembers a few words of all."""

    def __init__(self) -> None:
        self.page = Page()
        words: Any = self.page
        self.mailboxes = []
        for actor, message, capacity in QUEUES:
            start, slots = LAYOUT.mailbox(actor, message)
            assert slots == capacity
            self.mailboxes.append(QueueLog(words, start, len(LAYOUT.sources), capacity))
        self.delivery_states: dict[tuple[str, str, type[Message], int], DeliveryState] = {}
        self.unread: defaultdict[int, deque[Envelope]] = defaultdict(deque)
        self.in_progress: defaultdict[int, list[Envelope]] = defaultdict(list)
        self.numbers = dict.fromkeys(SOURCES, 0)
        self.keys: dict[Envelope, tuple[str, str, type[Message], int]] = {}

    def restart(self, source: str) -> None:
        """The sender's node is started again; what it has sent is still to be handled."""
        self.numbers[source] = (
            self.numbers[source] // ENVELOPES_PER_INCARNATION + 1
        ) * ENVELOPES_PER_INCARNATION

    def send(self, mailbox: int, source: str, kind: int) -> None:
        self.numbers[source] += 1
        envelope = received(LAYOUT.sources[source], self.numbers[source])
        kinds = MESSAGES[mailbox]
        key = (source, QUEUES[mailbox][0], kinds[kind % len(kinds)], envelope.number)
        self.keys[envelope] = key
        self.delivery_states[key] = DeliveryState.NOT_STARTED
        self.unread[mailbox].append(envelope)

    def begin(self, mailbox: int) -> None:
        if self.unread[mailbox] and len(self.in_progress[mailbox]) < QUEUES[mailbox][2]:
            envelope = self.unread[mailbox].popleft()
            self.in_progress[mailbox].append(envelope)
            self.mailboxes[mailbox].begin(envelope)
            between, after = self.page.seen
            self.check(between)  # a death then finds the handler not called
            self.delivery_states[self.keys[envelope]] = DeliveryState.STARTED
            self.check(after)

    def end(self, mailbox: int, which: int) -> None:
        if self.in_progress[mailbox]:
            envelope = self.in_progress[mailbox].pop(which % len(self.in_progress[mailbox]))
            self.mailboxes[mailbox].end(envelope)
            self.delivery_states[self.keys[envelope]] = DeliveryState.DONE
            (after,) = self.page.seen
            self.check(after)

    def check(self, page: bytes) -> None:
        """Of every message that was ever sent."""
        for key, delivery_state in self.delivery_states.items():
            assert LAYOUT.delivery_state(page, *key) is delivery_state, (key, delivery_state)
        self.page.seen.clear()


mailboxes = st.integers(0, len(QUEUES) - 1)
steps = st.one_of(
    st.tuples(st.just("send"), mailboxes, st.sampled_from(SOURCES), st.integers(0, 1)),
    st.tuples(st.just("begin"), mailboxes),
    st.tuples(st.just("begin"), mailboxes),
    st.tuples(st.just("end"), mailboxes, st.integers(0, 2)),
    st.tuples(st.just("restart"), st.sampled_from(SOURCES)),
)


@given(st.lists(steps, max_size=60))
def test_the_delivery_log_has_the_state_of_each_message(taken: list[Any]) -> None:
    twin = Twin()
    twin.check(bytes(LAYOUT.nbytes))
    for name, *arguments in taken:
        getattr(twin, name)(*arguments)


def test_words_have_room_for_the_last_node_and_the_last_number() -> None:
    sources = MAX_NODES
    words = memoryview(bytearray(WORD * (sources + 2))).cast("Q")
    delivery_log = QueueLog(words, 0, sources, 2)
    envelopes = [received(sources - 1, number) for number in (MAX_NUMBER, MAX_NUMBER - 1)]
    for envelope in envelopes:
        delivery_log.begin(envelope)
    assert len(set(words[sources:])) == 2
    delivery_log.end(envelopes[0])
    assert [bool(word) for word in words[sources:]] == [False, True]


def test_every_envelope_of_every_incarnation_has_a_number() -> None:
    last_incarnation = (1 << ORDINAL_BITS) - 1
    assert (last_incarnation + 1) * ENVELOPES_PER_INCARNATION - 1 == MAX_NUMBER


def test_mailboxes_do_not_overlap() -> None:
    words: list[int] = []
    for actor, message, capacity in QUEUES:
        start, _ = LAYOUT.mailbox(actor, message)
        words += range(start, start + len(LAYOUT.sources) + capacity + CRASHES)
    assert sorted(words) == list(range(LAYOUT.nbytes // WORD))


def test_the_layout_is_of_one_node() -> None:
    assert dict(LAYOUT.sources) == {"main": 0, "here": 1, "other": 2, "third": 3}
    with pytest.raises(KeyError):
        LAYOUT.mailbox("a", None)
    assert LogLayout(specs(), "nowhere").nbytes == WORD  # no page is empty: it can be mapped


def test_a_delivery_log_writes_into_the_memory_it_is_given() -> None:
    memory = bytearray(LAYOUT.nbytes + 100)
    delivery_log = DeliveryLog(LAYOUT, memoryview(memory))
    delivery_log.mailbox("second", None).begin(received(LAYOUT.sources["third"], 7))
    page = bytes(memory[: LAYOUT.nbytes])
    assert LAYOUT.delivery_state(page, "third", "second", Add, 7) is DeliveryState.STARTED
    assert LAYOUT.delivery_state(page, "third", "second", Add, 8) is DeliveryState.NOT_STARTED
    assert LAYOUT.delivery_state(page, "other", "second", Add, 7) is DeliveryState.NOT_STARTED
    assert LAYOUT.delivery_state(page, "third", "first", Add, 7) is DeliveryState.NOT_STARTED


@pytest.mark.parametrize("mailbox", QUEUES[:2])
def test_what_an_incarnation_crashed_over_stays_in_doubt(
    mailbox: tuple[str, type[Message] | None, int],
) -> None:
    page = bytearray(LAYOUT.nbytes)
    actor, message, _ = mailbox
    delivery_log = DeliveryLog(LAYOUT, memoryview(page)).mailbox(actor, message)
    handled = next(kind for kind in MESSAGES[QUEUES.index(mailbox)])
    for number in range(1, CRASHES + 2):
        delivery_log.begin(received(1, number))
        delivery_log.crashed(received(1, number))
    after = received(1, CRASHES + 2)
    delivery_log.begin(after)
    delivery_log.end(after)
    source = next(name for name, index in LAYOUT.sources.items() if index == 1)
    delivery_states = [
        LAYOUT.delivery_state(bytes(page), source, actor, handled, n) for n in range(1, CRASHES + 3)
    ]
    assert delivery_states == [DeliveryState.DONE, *[DeliveryState.STARTED] * CRASHES, DeliveryState.DONE]
