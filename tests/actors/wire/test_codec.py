"""Codec: all encodable messages and answers are decoded equal, in order, as views."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from actorq.actors.message import HEADER_BYTES, Message
from actorq.actors.runtime.envelope import Envelope, Outcome
from actorq.actors.wire.codec import (
    LARGE_BYTES,
    MAX_ENVELOPES,
    MAX_HEADER_BYTES,
    Answers,
    EnvelopeEnded,
    Found,
    Packer,
    Probe,
    Reply,
    Unpacker,
)
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.route_table import Route, RouteTable
from tests.actors.frames import (
    ADD,
    ADD_BY_OTHER,
    CONTRACT,
    EVERYTHING,
    FLOATS,
    GET,
    GET_TOTAL,
    REPLIES,
    Add,
    Array,
    Everything,
    Floats,
    Get,
    GetTotal,
    Inner,
    Picky,
    Total,
    asked,
    everything,
    frame_of,
    joined,
    measured,
    reply_and_back,
    same,
    there_and_back,
    told,
    with_anything,
)

KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
DTYPES = [order + kind for kind in KINDS for order in "<>"]


def rearranged(array: Array, route: int) -> Array:
    """The same array, or a view of it that is not C-ordered."""
    views: list[Callable[[Array], Array]] = [
        lambda a: a,
        lambda a: a.T,
        lambda a: a[::-1] if a.ndim else a,
        lambda a: a[..., ::2] if a.ndim else a,
        np.asfortranarray,
        lambda a: np.broadcast_to(a, (3, *a.shape)),
    ]
    return views[route](array)


arrays = st.builds(
    rearranged,
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
    st.integers(0, 5),
)
names = st.text(max_size=5)
numbers = st.integers(-(2**63), 2**64 - 1)
inners = st.builds(Inner, names, arrays)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | names | st.binary(max_size=9) | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
messages = st.builds(
    Everything,
    number=numbers,
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    text=st.text(max_size=40),
    blob=st.binary(max_size=40),
    array=arrays,
    maybe=st.none() | arrays,
    inner=inners,
    inners=st.lists(inners, max_size=3),
    named=st.dictionaries(names, arrays, max_size=3),
    pair=st.tuples(numbers, arrays),
    anything=values,
)
counts = st.integers(0, 2**64 - 1)
chains = st.lists(names, min_size=1, max_size=4).map(tuple)
envelopes = (
    st.builds(told, messages, size=counts)
    | st.builds(told, st.builds(Add, amount=numbers), st.sampled_from(["explorer", "learner"]))
    | st.builds(asked, st.builds(GetTotal) | st.builds(Get, name=names), st.just(()) | chains)
)


# Serializable values are decoded equal.


def unpacked(frame: memoryview) -> list[Envelope]:
    """The messages again, each made anew from what the frame says, numbered one after the other."""
    found: list[Envelope] = []
    for run in Unpacker().envelopes(CONTRACT, frame):
        route = CONTRACT.routes[run.route]
        assert run.first == 1 + len(found)
        for index, message in enumerate(run.messages):
            assert isinstance(message, route.message)
            envelope = (
                told(message, route.sender) if run.chains is None else asked(message, run.chains[index])
            )
            envelope.size = run.sizes[index]
            found.append(envelope)
    return found


@settings(max_examples=50)
@given(st.lists(envelopes, max_size=4))
def test_envelopes_come_back_equal_and_in_order(sent: Sequence[Envelope]) -> None:
    found = unpacked(frame_of(sent))
    for envelope, back in zip(sent, found, strict=True):
        assert same(back.message, envelope.message)
        assert (back.sender, back.wants_reply) == (envelope.sender, envelope.wants_reply)
        assert back.chain == envelope.chain
        if isinstance(envelope.message, Everything):  # the others' sizes follow from their types
            assert back.size == envelope.size


@given(messages | st.none() | st.builds(Total, value=st.floats(allow_nan=False)))
def test_a_reply_comes_back_equal(reply: Message | None) -> None:
    assert same(reply_and_back(reply), reply)


def test_envelopes_of_one_way_share_a_run() -> None:
    sent = [told(Add(amount=number)) for number in range(3)]
    sent += [told(Add(amount=3), "learner"), told(Floats(data=np.ones(2, np.float32)), size=77)]
    sent += [asked(GetTotal()), asked(GetTotal(), ("learner", "replay")), told(Add(amount=4))]
    runs = Unpacker().envelopes(CONTRACT, frame_of(sent, first=100))
    assert [(run.route, run.first, len(run.messages)) for run in runs] == [
        (ADD, 100, 3),
        (ADD_BY_OTHER, 103, 1),
        (FLOATS, 104, 1),
        (GET_TOTAL, 105, 2),
        (ADD, 107, 1),
    ]
    assert [run.chains for run in runs] == [None, None, None, ((), ("learner", "replay")), None]
    assert [list(run.sizes) for run in runs] == [[HEADER_BYTES + 8] * 3, [72], [77], [HEADER_BYTES] * 2, [72]]


def test_a_request_may_be_told_and_asked() -> None:
    told_and_asked = Unpacker().envelopes(CONTRACT, frame_of([told(GetTotal()), asked(GetTotal())]))
    assert [(run.route, run.chains) for run in told_and_asked] == [(GET_TOTAL, None), (GET_TOTAL, ((),))]


def test_no_envelopes() -> None:
    assert Unpacker().envelopes(CONTRACT, frame_of([])) == []


def test_as_many_envelopes_as_a_frame_may_have() -> None:
    sent = [told(Add(amount=number)) for number in range(MAX_ENVELOPES)]
    (run,) = Unpacker().envelopes(CONTRACT, frame_of(sent))
    assert run.messages == [envelope.message for envelope in sent]
    with pytest.raises(WireError, match="can't be read"):
        Unpacker().envelopes(CONTRACT, frame_of([*sent, told(Add(amount=0))]))
    mixed = [told(Add(amount=0), name) for name in ("explorer", "learner") for _ in range(MAX_ENVELOPES)]
    with pytest.raises(WireError, match="8192 messages or more; at most 4096"):
        Unpacker().envelopes(CONTRACT, frame_of(mixed))


OUTCOMES = [outcome for outcome in Outcome if outcome is not Outcome.HANDLED]


@settings(max_examples=50)
@given(
    st.builds(
        Answers,
        handled=st.lists(st.tuples(counts, counts)).map(lambda pairs: [n for pair in pairs for n in pair]),
        ended=st.lists(st.builds(EnvelopeEnded, counts, st.sampled_from(OUTCOMES), names, chains)),
        probes=st.lists(st.builds(Probe, counts, counts, chains)),
        found=st.lists(st.builds(Found, counts, chains)),
        freed=st.lists(counts),
    ),
    st.lists(messages, max_size=2),
)
def test_answers_come_back_equal(answers: Answers[Any], payloads: list[Everything]) -> None:
    kind = REPLIES.index(Everything)
    answers.replies = [Reply(number, kind, payload) for number, payload in enumerate(payloads)]
    received = Unpacker().answers(joined(Packer().answers(answers)), lambda number: REPLIES)
    for name in ("handled", "ended", "replies", "probes", "found", "freed"):
        assert same(getattr(received, name), getattr(answers, name))


def test_an_ack_batch_is_true_unless_it_is_empty() -> None:
    assert not Answers()
    ended = EnvelopeEnded(1, Outcome.REFUSED, "no")
    for said in ([(1, 1), [], []], [[], [ended], []], [[], [], [Reply(1, 0, None)]]):
        assert Answers(*said)
    assert Answers(probes=[Probe(1, 0, ("a",))])
    assert Answers(found=[Found(1, ("a",))])
    assert Answers(freed=[0])


@pytest.mark.parametrize("reply", [None, Total(value=2.5), Floats(data=np.ones(2, np.float32)), everything()])
def test_a_reply_is_of_any_kind_that_was_asked_for(reply: Message | None) -> None:
    assert same(reply_and_back(reply), reply)


def test_numpy_scalars_arrive_as_plain_ones() -> None:
    values = [np.float32(0.5), np.float64(1.5), np.float16(2), np.longdouble(3), np.int64(-4), np.uint8(5)]
    values += [np.bool_(True), np.str_("six"), np.bytes_(b"seven")]
    decoded = there_and_back(msgspec.structs.replace(with_anything(values), ratio=np.float32(0.25)))
    assert same(decoded.anything, [0.5, 1.5, 2.0, 3.0, -4, 5, True, "six", b"seven"])
    assert same(decoded.ratio, 0.25)


def test_arrays_of_a_file_are_sent_as_plain_ones(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "frames", dtype=np.float32, mode="w+", shape=(3,))
    assert type(there_and_back(Floats(data=mapped)).data) is np.ndarray


def test_many_arrays() -> None:
    message = with_anything([np.full(3, index) for index in range(1000)])
    assert same(there_and_back(message), message)


def test_frames_of_one_packer_are_independent() -> None:
    packer, unpacker = Packer(), Unpacker()
    first = packer.envelopes(CONTRACT, 1, [told(everything())])
    packer.answers(Answers(replies=[Reply(1, 0, Floats(data=np.ones(3, np.float32)))]))
    small = packer.envelopes(CONTRACT, 2, [told(Add(amount=1))])
    assert [run.messages for run in unpacker.envelopes(CONTRACT, joined(small))] == [[Add(amount=1)]]
    (run,) = unpacker.envelopes(CONTRACT, joined(first))
    assert same(run.messages[0], everything())


# Arrays are views.


def writable(frame: memoryview) -> bytearray:
    return bytearray(frame)


def message_in(frame: bytearray | memoryview) -> Any:
    (run,) = Unpacker().envelopes(CONTRACT, memoryview(frame))
    return run.messages[0]


def test_arrays_are_read_only_views_of_the_frame() -> None:
    frame = writable(frame_of([told(everything())]))
    decoded = message_in(frame)
    memory = np.frombuffer(frame, np.uint8)
    address = memory.ctypes.data
    for array in (decoded.array, decoded.inner.data, decoded.inners[1].data, decoded.named["weights"]):
        assert np.shares_memory(array, memory)
        assert (array.ctypes.data - address) % 64 == 0
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True


def test_a_view_keeps_its_frame_and_nothing_else_does() -> None:
    frame = writable(frame_of([told(Floats(data=np.ones(3, np.float32))), told(Add(amount=1))]))
    unpacker = Unpacker()
    floats, add = unpacker.envelopes(CONTRACT, memoryview(frame))
    with pytest.raises(BufferError):  # memory that is seen by others can't move
        frame.append(0)
    del floats
    frame.append(0)
    assert add.messages == [Add(amount=1)]


def test_a_frame_that_fails_is_not_kept() -> None:
    frame = writable(frame_of([told(Floats(data=np.ones(3, np.float32)))]))
    unpacker, nothing = Unpacker(), RouteTable([])
    with pytest.raises(WireError):
        unpacker.envelopes(nothing, memoryview(frame))
    frame.append(0)


@pytest.mark.parametrize("shift", range(17))
def test_only_what_is_not_aligned_is_copied(shift: int) -> None:
    message = msgspec.structs.replace(everything(), array=np.arange(3.0), maybe=np.arange(3, dtype=np.uint8))
    frame = frame_of([told(message)])
    memory = np.zeros(len(frame) + 128, np.uint8)
    start = -memory.ctypes.data % 64 + shift
    memory[start : start + len(frame)] = np.frombuffer(frame, np.uint8)
    decoded = message_in(memory.data[start : start + len(frame)])
    assert same(decoded, message)
    assert np.shares_memory(decoded.array, memory) == (shift % 8 == 0)
    assert np.shares_memory(decoded.maybe, memory)
    assert decoded.array.flags.aligned
    assert not decoded.array.flags.writeable


def test_arrays_are_copied_once() -> None:
    message = Floats(data=np.zeros(2**20, np.float32))
    parts, peak = measured(lambda: Packer().envelopes(CONTRACT, 1, [told(message)]))
    assert peak < 20_000
    assert np.shares_memory(np.asarray(parts[-1]), message.data)
    frame = joined(parts)
    _, peak = measured(lambda: message_in(frame))
    assert peak < 20_000


# What can't be serialized is refused where it is sent.


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.array([object()]), "dtype object can't be serialized"),
        (np.zeros(2, "i4,f4"), "send the fields of records one by one"),
        (np.zeros(2, "M8[s]"), "view dates as int64"),
        (np.zeros(2, "m8[s]"), "view dates as int64"),
        (np.array(["text"]), "dtype <U4 can't be serialized"),
        (np.zeros(2, np.longdouble), "dtype float128 can't be serialized"),
        (np.ma.masked_array([1, 2], [True, False]), "a MaskedArray can't be serialized"),
        (np.datetime64("2020-01-01"), "a numpy.datetime64 can't be serialized"),
        (object(), "a builtins.object can't be serialized"),
        (1j, "a builtins.complex can't be serialized"),
        (2**64, "can't be encoded"),
        ("\ud800", "can't be encoded"),
        (bytes(MAX_HEADER_BYTES), "send large data as arrays"),
    ],
    ids=[
        "object",
        "record",
        "date",
        "span",
        "text",
        "longdouble",
        "masked",
        "a date",
        "any",
        "complex",
        "int",
        "surrogate",
        "long",
    ],
)
def test_what_cannot_be_serialized(value: Any, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        frame_of([told(with_anything([value]))])
    with pytest.raises(WireError, match=sentence):
        reply_and_back(with_anything([value]))


def test_a_value_that_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="can't be encoded"):
        frame_of([told(with_anything(endless))])


def test_only_a_request_can_be_asked() -> None:
    with pytest.raises(WireError, match="it can be told, not asked"):
        frame_of([told(Add(amount=1)), asked(Add(amount=1))])


def test_a_packer_continues_after_an_unencodable_message() -> None:
    packer = Packer()
    with pytest.raises(WireError):
        packer.envelopes(CONTRACT, 1, [told(with_anything([np.ones(3), object()]))])
    assert same(message_in(joined(packer.envelopes(CONTRACT, 1, [told(everything())]))), everything())


class Annotated(Message):
    either: NDArray[np.float32 | np.float64]
    floating: NDArray[np.floating[Any]]
    long: NDArray[np.longlong]
    bare: np.ndarray


def test_dtype_of_an_annotation() -> None:
    route_table = RouteTable([Route("a", "b", Annotated)])

    def through(message: Message) -> Message | WireError:
        envelope = told(message, "a")
        envelope.target = "b"
        (run,) = Unpacker().envelopes(route_table, joined(Packer().envelopes(route_table, 1, [envelope])))
        return run.messages[0]

    right = Annotated(
        either=np.zeros(1), floating=np.zeros(1, ">f2"), long=np.zeros(1, np.longlong), bare=np.zeros(1, bool)
    )
    assert same(through(right), right)
    for field, (name, kind) in enumerate((("either", "f2"), ("floating", "i4"), ("long", "i4"))):
        error = through(msgspec.structs.replace(right, **{name: np.zeros(1, kind)}))
        with pytest.raises(WireError, match=rf"Expected an array of .* - at `\$\[{field}\]`"):
            raise error  # type: ignore[misc]


# One message that can't be decoded.


def test_one_undecodable_envelope_among_good_ones() -> None:
    sent: list[Envelope] = [told(Picky(amount=number)) for number in range(4)]
    msgspec.structs.force_setattr(sent[2].message, "amount", -1)
    (run,) = Unpacker().envelopes(CONTRACT, frame_of([*sent, *sent], first=5))
    assert run.first == 5
    for index in (0, 1, 3, 4, 5, 7):
        assert run.messages[index] == sent[index % 4].message
    for index in (2, 6):
        error = run.messages[index]
        assert isinstance(error, WireError)
        assert str(error) == "Picky can't be decoded: \"an error of the user's own\""


def test_undecodable_envelopes_do_not_hurt_other_runs() -> None:
    wrong = told(Floats(data=np.zeros(3)))  # type: ignore[arg-type]
    right = Floats(data=np.ones(2, np.float32))
    before, run, after = Unpacker().envelopes(
        CONTRACT, frame_of([asked(GetTotal()), wrong, told(right), told(everything())])
    )
    assert before.messages == [GetTotal()]
    with pytest.raises(WireError, match="Expected an array of float32, got float64"):
        raise run.messages[0]  # type: ignore[misc]
    assert same(run.messages[1], right)
    assert same(after.messages[0], everything())
    assert (after.route, after.first) == (EVERYTHING, 4)


def test_an_undecodable_reply_does_not_hurt_the_others() -> None:
    kind = REPLIES.index(Floats)
    payloads = [Floats(data=np.ones(2, np.float32)), Floats(data=np.ones(2))]  # type: ignore[arg-type]
    replies = [Reply(number, kind, payload) for number, payload in enumerate(payloads)]
    frame = joined(Packer().answers(Answers(handled=[9, 1], replies=replies)))
    answers = Unpacker().answers(frame, lambda number: REPLIES)
    assert same(answers.replies[0], replies[0])
    with pytest.raises(WireError, match="the reply can't be decoded: Expected an array of float32"):
        raise answers.replies[1].payload
    assert answers.handled == [9, 1]


# Blocks of shared memory.


class SharedMemory:
    """Blocks, and who has one."""

    def __init__(self, room: int = 100) -> None:
        self.blocks: dict[int, bytes] = {}
        self.room = room

    def lend(self, array: NDArray[Any]) -> int | None:
        if len(self.blocks) == self.room:
            return None
        offset = 64 * (1 + len(self.blocks))
        self.blocks[offset] = array.tobytes()
        return offset

    def take_back(self, offset: int) -> None:
        del self.blocks[offset]

    def borrow(self, offset: int, nbytes: int) -> memoryview:
        block = self.blocks.get(offset)
        if block is None or len(block) != nbytes:
            raise ValueError("no such block")
        return memoryview(block)


LARGE = np.arange(LARGE_BYTES // 4, dtype=np.float32)
SMALL = LARGE[:-1]


def test_large_arrays_are_lent() -> None:
    memory = SharedMemory(room=2)
    message = with_anything([LARGE, SMALL, LARGE.reshape(-1, 8), LARGE[::-1]])  # no room for the last one
    frame = joined(Packer(memory.lend).envelopes(CONTRACT, 1, [told(message)]))
    assert list(memory.blocks.values()) == [LARGE.tobytes()] * 2
    assert 2 * LARGE_BYTES <= len(frame) < 2 * LARGE_BYTES + 2000
    (run,) = Unpacker(memory.borrow).envelopes(CONTRACT, frame)
    assert same(run.messages[0], message)
    decoded: Any = run.messages[0]
    for array, offset in zip((decoded.anything[0], decoded.anything[2]), memory.blocks, strict=True):
        assert np.shares_memory(array, np.frombuffer(memory.blocks[offset], np.uint8))
        assert not array.flags.writeable


def test_large_arrays_of_a_reply_are_lent() -> None:
    memory = SharedMemory()
    reply = Reply(1, REPLIES.index(Floats), Floats(data=LARGE))
    frame = joined(Packer(memory.lend).answers(Answers(replies=[reply])))
    assert len(frame) < 100
    (received,) = Unpacker(memory.borrow).answers(frame, lambda number: REPLIES).replies
    assert same(received.payload, reply.payload)


@pytest.mark.parametrize(
    "spoilt",
    [[LARGE, LARGE, object()], [LARGE, LARGE.astype(object)], [LARGE, "x" * MAX_HEADER_BYTES]],
    ids=["encoding", "dtype", "length"],
)
def test_what_was_lent_for_a_frame_that_fails_is_taken_back(spoilt: list[Any]) -> None:
    memory = SharedMemory()
    packer = Packer(memory.lend, memory.take_back)
    with pytest.raises(WireError):
        packer.envelopes(CONTRACT, 1, [told(Floats(data=LARGE)), told(with_anything(spoilt))])
    assert not memory.blocks
    packer.envelopes(CONTRACT, 1, [told(Floats(data=LARGE))])
    assert len(memory.blocks) == 1
    with pytest.raises(WireError):
        packer.answers(Answers(replies=[Reply(1, 0, with_anything([LARGE, object()]))]))
    assert len(memory.blocks) == 1


def test_a_block_that_cannot_be_read() -> None:
    memory = SharedMemory()
    frame = joined(Packer(memory.lend).envelopes(CONTRACT, 1, [told(Floats(data=LARGE))]))
    memory.take_back(64)
    with pytest.raises(WireError, match="bytes at 64 can't be read: no such block"):
        Unpacker(memory.borrow).envelopes(CONTRACT, frame)
    with pytest.raises(WireError, match="names a block of memory, but none is shared"):
        Unpacker().envelopes(CONTRACT, frame)


def test_kinds_of_replies_are_in_the_order_of_their_names() -> None:
    assert CONTRACT.replies[GET] == (type(None), Everything, Floats, Total)
