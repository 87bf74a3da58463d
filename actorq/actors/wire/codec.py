"""Codec of messages and answers: frames of bytes. Nothing is pickled; only types of the route table are
decoded.

A frame is a prefix (the header's length), a msgpack header that contains the payloads, with references in
place of their arrays, and then the arrays' bytes. All messages that wait for one node share a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
import numpy as np
from msgspec import Meta, msgpack
from numpy.typing import NDArray

from actorq.actors.message import Message
from actorq.actors.runtime.envelope import Envelope, Outcome
from actorq.actors.supervision.delivery_log import MAX_NUMBER

from .arrays import Borrow, Row, Table, check_dtype, describe, lay_out, views
from .registry import WireError
from .route_table import RouteTable

MAX_HEADER_BYTES = 16 * 2**20
"""Bound on everything outside arrays: decoded objects may take many times the memory of their bytes."""

MAX_ENVELOPES = 4096
"""Bound on the messages of one frame."""

LARGE_BYTES = 128 * 1024
"""Arrays from this size on go by shared memory; for smaller ones the bookkeeping costs more than it saves."""

Lend = Callable[[NDArray[Any]], int | None]
"""Copies an array into shared memory that the receiver can read, and returns its offset; None leaves it in
the frame.
"""

TakeBack = Callable[[int], None]
"""Frees the block lent at this offset, when the frame that refers to it could not be made."""

Parts = list[bytes | memoryview]
"""A frame's bytes in pieces, to be written one after the other."""

_PREFIX = struct.Struct("<II")  # the header's length, and padding
_ARRAY = 1  # msgpack extension: the number of an array in the table
_Number = Annotated[int, Meta(ge=0)]
_Chain = tuple[str, ...]
_Circle = Annotated[_Chain, Meta(min_length=1)]
T = TypeVar("T")
P = TypeVar("P")


class _Run(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive messages on one route."""

    route: _Number
    payloads: msgspec.Raw
    """An encoded list, scanned but not decoded: its nesting and counts are valid."""
    chains: Annotated[tuple[_Chain, ...], Meta(max_length=MAX_ENVELOPES)] | None
    """For requests whose reply is awaited: the chain of waiting handlers that led to each."""
    sizes: Annotated[tuple[_Number, ...], Meta(max_length=MAX_ENVELOPES)] | None
    """Accounted size of each message in bytes, for types without a fixed size."""


class _EnvelopesHeader(msgspec.Struct, frozen=True, array_like=True):
    first: Annotated[int, Meta(ge=1, lt=MAX_NUMBER - MAX_ENVELOPES)]
    runs: Annotated[tuple[_Run, ...], Meta(max_length=MAX_ENVELOPES)]
    table: Table


class EnvelopeRun(msgspec.Struct, frozen=True):
    """Consecutive messages received on one route."""

    route: int
    first: int
    """Number of the first message; the others follow without gaps."""
    messages: Sequence[Message | WireError]
    """Each message, or the error for one that can't be decoded."""
    chains: tuple[_Chain, ...] | None
    sizes: Sequence[int]
    whole: bool
    """True if every message could be decoded."""


class EnvelopeEnded(msgspec.Struct, frozen=True, array_like=True):
    """Outcome of a message that ended in another way than handled without a reply."""

    number: _Number
    outcome: Outcome
    reason: str = ""
    circle: _Chain = ()
    """For CIRCULAR: the actors that would have waited for each other."""


class Reply(msgspec.Struct, Generic[P], frozen=True, array_like=True):
    """Reply to a request that was handled."""

    number: _Number
    kind: _Number
    """Index of the reply's type among those that the request declares."""
    payload: P


class Probe(msgspec.Struct, frozen=True, array_like=True):
    """Deadlock-detection probe along a wait; see runtime/deadlock.py."""

    number: _Number
    route: _Number
    chain: _Circle


class Found(msgspec.Struct, frozen=True, array_like=True):
    """A probe that has returned to the actor where it started."""

    number: _Number
    chain: _Circle


class Answers(msgspec.Struct, Generic[P], array_like=True):
    """Content of a frame of answers: everything but messages. Never queued behind messages."""

    handled: list[_Number] = []
    """Numbers of messages that were handled and need no reply, as pairs: first number and count of each
    range.
    """
    ended: list[EnvelopeEnded] = []
    replies: list[Reply[P]] = []
    """Their payloads are `msgspec.Raw` until each is decoded as a type that its request declares."""
    probes: list[Probe] = []
    found: list[Found] = []
    freed: list[_Number] = []
    """Offsets of released blocks of shared memory."""
    table: Table = []

    def __bool__(self) -> bool:
        return bool(self.handled or self.ended or self.replies or self.probes or self.found or self.freed)


class Packer:
    """Encodes frames. Lends large arrays with `lend`, and takes them back with `take_back` if the frame can't
    be made.
    """

    def __init__(self, lend: Lend | None = None, take_back: TakeBack | None = None) -> None:
        self._lend = lend
        self._take_back = take_back
        self._encoder = msgpack.Encoder(enc_hook=self._stand_in)
        self._inline: list[NDArray[Any]] = []
        self._table: list[Row] = []

    def envelopes(self, route_table: RouteTable, first: int, envelopes: Sequence[Envelope]) -> Parts:
        """Encode a frame of messages, numbered from `first` on.

        Each array is copied once, when the parts are written; one that is not C-ordered is copied before.
        Raises WireError if a message contains something that can't be encoded.
        """
        runs: list[tuple[int, list[Message], list[_Chain] | None, list[int] | None]] = []
        numbers = route_table.numbers
        last, asked = -1, False
        for envelope in envelopes:
            message = envelope.message
            route = numbers[envelope.sender, envelope.target, type(message)]
            if route != last or envelope.wants_reply != asked:
                last, asked = route, envelope.wants_reply
                if asked and not route_table.replies[route]:
                    raise WireError("it is not a request: it can be told, not asked")
                payloads: list[Message] = []
                chains: list[_Chain] | None = [] if asked else None
                sizes: list[int] | None = [] if route_table.sizes[route] < 0 else None
                runs.append((route, payloads, chains, sizes))
            payloads.append(message)
            if chains is not None:
                chains.append(envelope.chain)
            if sizes is not None:
                sizes.append(envelope.size)
        return self._pack((first, runs, self._table))

    def answers(self, answers: Answers[Any]) -> Parts:
        """Encode a frame of answers. Raises WireError if a reply contains something that can't be encoded."""
        answers.table = self._table
        return self._pack(answers)

    def _pack(self, header: Any) -> Parts:
        self._table.clear()
        self._inline.clear()
        try:
            head = self._head(header)
        except WireError:
            for row in self._table:
                if row.block is not None and self._take_back is not None:
                    self._take_back(row.block)
            raise
        start = _PREFIX.size + len(head)
        return [_PREFIX.pack(len(head), 0), head, *lay_out(self._inline, start)]

    def _head(self, header: Any) -> bytes:
        try:
            # The table comes last: it is filled while the payloads before it are encoded.
            head = self._encoder.encode(header)
        except WireError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WireError(f"it can't be encoded: {error}") from error
        if len(head) > MAX_HEADER_BYTES:
            raise WireError(
                f"it takes {len(head)} bytes besides its arrays, at most {MAX_HEADER_BYTES} are allowed: "
                "send large data as arrays"
            )
        return head

    def _stand_in(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            row, block = describe(value), None
            if self._lend is not None and value.nbytes >= LARGE_BYTES:
                block = self._lend(value)
            if block is None:
                self._inline.append(value)
            else:
                row = msgspec.structs.replace(row, block=block)
            self._table.append(row)
            return _reference(len(self._table) - 1)
        if isinstance(value, np.floating):
            return float(value)
        if isinstance(value, np.integer | np.bool_ | np.str_ | np.bytes_):
            return value.item()
        raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} can't be serialized")


class Unpacker:
    """Decodes frames, whose memory must not change any more.

    Arrays are read-only views that keep the frame's memory alive; an array is copied only if the memory is
    not aligned for its dtype. Raises WireError, and nothing else, for anything invalid in a frame, before
    memory is allocated for it.
    """

    def __init__(self, borrow: Borrow | None = None) -> None:
        self._borrow = borrow
        self._arrays: list[NDArray[Any]] = []
        self._envelopes = msgpack.Decoder(_EnvelopesHeader)
        self._answers = msgpack.Decoder(Answers[msgspec.Raw])
        self._decoders: dict[Any, msgpack.Decoder[Any]] = {}
        self._lists: dict[type[Message], msgpack.Decoder[Any]] = {}
        self._raw_list = msgpack.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=MAX_ENVELOPES)])

    def envelopes(self, route_table: RouteTable, frame: memoryview) -> list[EnvelopeRun]:
        """Decode a frame of messages, checked against the route table."""
        try:
            header = self._open(self._envelopes, frame)
            runs, count = [], 0
            for packed in header.runs:
                run = self._run(route_table, packed, header.first + count)
                count += len(run.messages)
                if count > MAX_ENVELOPES:
                    raise WireError(
                        f"a frame has {count} messages or more; at most {MAX_ENVELOPES} are allowed"
                    )
                runs.append(run)
            return runs
        finally:
            self._arrays = []

    def _run(self, route_table: RouteTable, run: _Run, first: int) -> EnvelopeRun:
        if run.route >= len(route_table.routes):
            raise WireError(
                f"a message has route {run.route}; the route table has {len(route_table.routes)} routes"
            )
        if run.chains is not None and not route_table.replies[run.route]:
            raise WireError(f"a reply is expected on route {run.route}, which carries no requests")
        messages, whole = self._messages(route_table.routes[run.route].message, run.payloads)
        count = len(messages)
        if not count:
            raise WireError(f"a run on route {run.route} has no messages")
        fixed = route_table.sizes[run.route]
        sizes = run.sizes if run.sizes is not None else (max(0, fixed),) * count
        if len(sizes) != count or (run.chains is not None and len(run.chains) != count):
            raise WireError(
                f"a run of {count} messages has {len(sizes)} sizes, or another number of wait chains"
            )
        return EnvelopeRun(run.route, first, messages, run.chains, sizes, whole)

    def answers(self, frame: memoryview, replies_to: Callable[[int], tuple[Any, ...]]) -> Answers[Any]:
        """Decode a frame of answers. `replies_to` returns the declared reply types of a request by its
        number.
        """
        try:
            header = self._open(self._answers, frame)
            replies = [self._reply(reply, replies_to(reply.number)) for reply in header.replies]
        finally:
            self._arrays = []
        if len(header.handled) % 2:
            raise WireError("a range of handled messages has no length")
        for ended in header.ended:
            if ended.outcome is Outcome.HANDLED or (ended.outcome is Outcome.CIRCULAR and not ended.circle):
                raise WireError(f"message {ended.number} is reported {ended.outcome.value} without details")
        return msgspec.structs.replace(cast(Answers[Any], header), replies=replies, table=[])

    def _reply(self, reply: Reply[msgspec.Raw], kinds: tuple[Any, ...]) -> Reply[Any]:
        if reply.kind >= len(kinds):
            raise WireError(
                f"the reply to request {reply.number} has a type that the request doesn't declare"
            )
        try:
            value = self._decoder(kinds[reply.kind]).decode(reply.payload)
        except Exception as error:  # a type's own __post_init__ may raise anything
            value = WireError(f"the reply can't be decoded: {error}")
        return Reply(reply.number, reply.kind, value)

    def _messages(
        self, kind: type[Message], payloads: msgspec.Raw
    ) -> tuple[Sequence[Message | WireError], bool]:
        """The messages of a run, and whether all of them could be decoded."""
        decoder = self._lists.get(kind)
        if decoder is None:
            decoder = self._lists[kind] = self._decoder(Annotated[list[kind], Meta(max_length=MAX_ENVELOPES)])  # type: ignore[valid-type]
        try:
            return decoder.decode(payloads), True
        except Exception:
            return self._one_by_one(kind, payloads), False

    def _one_by_one(self, kind: type[Message], payloads: msgspec.Raw) -> list[Message | WireError]:
        """Decode messages separately, so that one that can't be decoded doesn't affect the others."""
        try:
            each = self._raw_list.decode(payloads)
        except msgspec.MsgspecError as error:
            raise WireError(f"a run of messages can't be read: {error}") from error
        messages: list[Message | WireError] = []
        for raw in each:
            try:
                messages.append(self._decoder(kind).decode(raw))
            except Exception as error:  # a type's own __post_init__ may raise anything
                messages.append(WireError(f"{kind.__qualname__} can't be decoded: {error}"))
        return messages

    def _open(self, decoder: msgpack.Decoder[T], frame: memoryview) -> T:
        memory = frame.cast("B").toreadonly()
        if len(memory) < _PREFIX.size:
            raise WireError(f"a frame of {len(memory)} bytes is cut short")
        length, nothing = _PREFIX.unpack_from(memory)
        start = _PREFIX.size + length
        if nothing or length > MAX_HEADER_BYTES or start > len(memory):
            raise WireError(f"a frame of {len(memory)} bytes claims a header of {length}")
        try:
            header: Any = decoder.decode(memory[_PREFIX.size : start])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise WireError(f"a frame's header can't be read: {error}") from error
        if header.table or start != len(memory):
            # An array made from a memoryview doesn't refer to it; made from an array it keeps that alive.
            self._arrays = views(header.table, np.frombuffer(memory, np.uint8), start, self._borrow)
        return header  # type: ignore[no-any-return]

    def _decoder(self, kind: Any) -> msgpack.Decoder[Any]:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = msgpack.Decoder(kind, ext_hook=self._array, dec_hook=check_dtype)
            self._decoders[kind] = decoder
        return decoder

    def _array(self, code: int, number: memoryview) -> NDArray[Any]:
        index = int.from_bytes(number, "little")
        if code != _ARRAY or index >= len(self._arrays):
            raise ValueError(f"no array {index} in a table of {len(self._arrays)}")
        return self._arrays[index]


@lru_cache(maxsize=256)
def _reference(index: int) -> msgpack.Ext:
    return msgpack.Ext(_ARRAY, index.to_bytes(4, "little"))
