"""What a dead node's page tells of each letter is what became of it, whenever death came."""

from collections import defaultdict, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors import Actor, ActorSpec, handles
from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Letter
from actorq.actors.supervision.delivery_log import (
    CRASHES,
    MAX_NODES,
    MAX_NUMBER,
    WORD,
    Fate,
    LaneLedger,
    Layout,
    Ledger,
)
from actorq.actors.wire.peer_session import LETTERS_OF_ONE_LIFE
from actorq.actors.wire.reply_buffer import Received
from actorq.actors.wire.transport import ORDINAL_BITS
from tests.actors.messages import Add, Echo, GetTotal, Text, Total, Visit
from tests.actors.world import spec


class Several(Actor):
    """Add and GetTotal in the lane that handles one at a time, the others in lanes of their own."""

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


LAYOUT = Layout(specs(), "here")
SOURCES = ("main", "other", "third")
LANES: list[tuple[str, type[Message] | None, int]] = [
    ("first", None, 1),
    ("first", Echo, 1),
    ("first", Visit, 3),
    ("second", None, 1),
]
MESSAGES: list[list[type[Message]]] = [[Add, GetTotal], [Echo], [Visit], [Add]]
"""What goes to each lane."""


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
    """Remembers of each letter what has become of it; the ledger remembers a few words of all."""

    def __init__(self) -> None:
        self.page = Page()
        words: Any = self.page
        self.lanes = []
        for actor, message, capacity in LANES:
            start, slots = LAYOUT.lane(actor, message)
            assert slots == capacity
            self.lanes.append(LaneLedger(words, start, len(LAYOUT.sources), capacity))
        self.fates: dict[tuple[str, str, type[Message], int], Fate] = {}
        self.unread: defaultdict[int, deque[Letter]] = defaultdict(deque)
        self.at_hand: defaultdict[int, list[Letter]] = defaultdict(list)
        self.numbers = dict.fromkeys(SOURCES, 0)
        self.keys: dict[Letter, tuple[str, str, type[Message], int]] = {}

    def restart(self, source: str) -> None:
        """The sender's node is started again; what it has sent is still to be handled."""
        self.numbers[source] = (self.numbers[source] // LETTERS_OF_ONE_LIFE + 1) * LETTERS_OF_ONE_LIFE

    def send(self, lane: int, source: str, kind: int) -> None:
        self.numbers[source] += 1
        letter = received(LAYOUT.sources[source], self.numbers[source])
        kinds = MESSAGES[lane]
        key = (source, LANES[lane][0], kinds[kind % len(kinds)], letter.number)
        self.keys[letter] = key
        self.fates[key] = Fate.NOT_BEGUN
        self.unread[lane].append(letter)

    def begin(self, lane: int) -> None:
        if self.unread[lane] and len(self.at_hand[lane]) < LANES[lane][2]:
            letter = self.unread[lane].popleft()
            self.at_hand[lane].append(letter)
            self.lanes[lane].begin(letter)
            between, after = self.page.seen
            self.check(between)  # a death then finds the handler not called
            self.fates[self.keys[letter]] = Fate.AT_HAND
            self.check(after)

    def end(self, lane: int, which: int) -> None:
        if self.at_hand[lane]:
            letter = self.at_hand[lane].pop(which % len(self.at_hand[lane]))
            self.lanes[lane].end(letter)
            self.fates[self.keys[letter]] = Fate.DONE
            (after,) = self.page.seen
            self.check(after)

    def check(self, page: bytes) -> None:
        """Of every letter that was ever sent."""
        for key, fate in self.fates.items():
            assert LAYOUT.fate(page, *key) is fate, (key, fate)
        self.page.seen.clear()


lanes = st.integers(0, len(LANES) - 1)
steps = st.one_of(
    st.tuples(st.just("send"), lanes, st.sampled_from(SOURCES), st.integers(0, 1)),
    st.tuples(st.just("begin"), lanes),
    st.tuples(st.just("begin"), lanes),
    st.tuples(st.just("end"), lanes, st.integers(0, 2)),
    st.tuples(st.just("restart"), st.sampled_from(SOURCES)),
)


@given(st.lists(steps, max_size=60))
def test_the_page_tells_what_became_of_each_letter(taken: list[Any]) -> None:
    twin = Twin()
    twin.check(bytes(LAYOUT.nbytes))
    for name, *arguments in taken:
        getattr(twin, name)(*arguments)


def test_words_have_room_for_the_last_node_and_the_last_number() -> None:
    sources = MAX_NODES
    words = memoryview(bytearray(WORD * (sources + 2))).cast("Q")
    ledger = LaneLedger(words, 0, sources, 2)
    letters = [received(sources - 1, number) for number in (MAX_NUMBER, MAX_NUMBER - 1)]
    for letter in letters:
        ledger.begin(letter)
    assert len(set(words[sources:])) == 2
    ledger.end(letters[0])
    assert [bool(word) for word in words[sources:]] == [False, True]


def test_every_letter_of_every_life_has_a_number() -> None:
    last_life = (1 << ORDINAL_BITS) - 1
    assert (last_life + 1) * LETTERS_OF_ONE_LIFE - 1 == MAX_NUMBER


def test_lanes_do_not_overlap() -> None:
    words: list[int] = []
    for actor, message, capacity in LANES:
        start, _ = LAYOUT.lane(actor, message)
        words += range(start, start + len(LAYOUT.sources) + capacity + CRASHES)
    assert sorted(words) == list(range(LAYOUT.nbytes // WORD))


def test_the_layout_is_of_one_node() -> None:
    assert dict(LAYOUT.sources) == {"main": 0, "here": 1, "other": 2, "third": 3}
    with pytest.raises(KeyError):
        LAYOUT.lane("a", None)
    assert Layout(specs(), "nowhere").nbytes == WORD  # no page is empty: it can be mapped


def test_a_ledger_writes_into_the_memory_it_is_given() -> None:
    memory = bytearray(LAYOUT.nbytes + 100)
    ledger = Ledger(LAYOUT, memoryview(memory))
    ledger.lane("second", None).begin(received(LAYOUT.sources["third"], 7))
    page = bytes(memory[: LAYOUT.nbytes])
    assert LAYOUT.fate(page, "third", "second", Add, 7) is Fate.AT_HAND
    assert LAYOUT.fate(page, "third", "second", Add, 8) is Fate.NOT_BEGUN
    assert LAYOUT.fate(page, "other", "second", Add, 7) is Fate.NOT_BEGUN
    assert LAYOUT.fate(page, "third", "first", Add, 7) is Fate.NOT_BEGUN


@pytest.mark.parametrize("lane", LANES[:2])
def test_what_a_life_crashed_over_stays_in_doubt(lane: tuple[str, type[Message] | None, int]) -> None:
    page = bytearray(LAYOUT.nbytes)
    actor, message, _ = lane
    ledger = Ledger(LAYOUT, memoryview(page)).lane(actor, message)
    handled = next(kind for kind in MESSAGES[LANES.index(lane)])
    for number in range(1, CRASHES + 2):
        ledger.begin(received(1, number))
        ledger.crashed(received(1, number))
    after = received(1, CRASHES + 2)
    ledger.begin(after)
    ledger.end(after)
    source = next(name for name, index in LAYOUT.sources.items() if index == 1)
    fates = [LAYOUT.fate(bytes(page), source, actor, handled, n) for n in range(1, CRASHES + 3)]
    assert fates == [Fate.DONE, *[Fate.AT_HAND] * CRASHES, Fate.DONE]
