"""Messages and answers as frames of bytes, and back. Nothing is pickled; only what the contract names is
read.

A frame is a prefix (the header's length), a msgpack header with the payloads in it, references in place of
their arrays, and then the arrays' bytes. All messages that wait for one node share a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeVar

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
"""What is not in arrays: its objects may take many times the memory of their bytes."""

MAX_ENVELOPES = 4096
"""In one frame."""

LARGE_BYTES = 128 * 1024
"""Smaller arrays are not worth a block of shared memory: the notice costs more than it saves."""

Lend = Callable[[NDArray[Any]], int | None]
"""Puts an array where the receiver sees it too, and returns its offset there; None leaves it in the frame."""

TakeBack = Callable[[int], None]
"""Frees what was lent at this offset, for a frame that then came to nothing."""

Parts = list[bytes | memoryview]
"""A frame's bytes in pieces, to be written one after the other."""

_PREFIX = struct.Struct("<II")  # the header's length, and nothing
_ARRAY = 1  # msgpack extension: the number of an array in the table
_Number = Annotated[int, Meta(ge=0)]
_Chain = tuple[str, ...]
_Circle = Annotated[_Chain, Meta(min_length=1)]
T = TypeVar("T")


class _Run(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive messages on one way."""

    route: _Number
    payloads: msgspec.Raw
    """A list, walked over but not decoded: its nesting, and every count in it, are known to be true."""
    chains: Annotated[tuple[_Chain, ...], Meta(max_length=MAX_ENVELOPES)] | None
    """Of requests whose answer is waited for: the waiting handlers that led to each."""
    sizes: Annotated[tuple[_Number, ...], Meta(max_length=MAX_ENVELOPES)] | None
    """What each is reckoned to take, where the type doesn't tell."""


class _EnvelopesHeader(msgspec.Struct, frozen=True, array_like=True):
    first: Annotated[int, Meta(ge=1, lt=MAX_NUMBER - MAX_ENVELOPES)]
    runs: Annotated[tuple[_Run, ...], Meta(max_length=MAX_ENVELOPES)]
    table: Table


class EnvelopeRun(msgspec.Struct, frozen=True):
    """Messages that have arrived, one after the other, on one way."""

    route: int
    first: int
    """The first one's number; the others follow."""
    messages: Sequence[Message | WireError]
    """Or why one can't be decoded."""
    chains: tuple[_Chain, ...] | None
    sizes: Sequence[int]
    whole: bool
    """Every one could be decoded."""


class EnvelopeEnded(msgspec.Struct, frozen=True, array_like=True):
    """How a message ended that wasn't simply handled."""

    number: _Number
    outcome: Outcome
    reason: str = ""
    circle: _Chain = ()
    """For CIRCULAR: the actors that would have waited for each other."""


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a request that was handled."""

    number: _Number
    kind: _Number
    """Which of the types that the request asks for."""
    payload: Any


class Probe(msgspec.Struct, frozen=True, array_like=True):
    """A wait followed by deadlock detection; see runtime/deadlock.py."""

    number: _Number
    route: _Number
    chain: _Circle


class Found(msgspec.Struct, frozen=True, array_like=True):
    """A probe that has come back to where it began."""

    number: _Number
    chain: _Circle


class Answers(msgspec.Struct, array_like=True):
    """Everything that goes beside the messages, and never waits behind them."""

    handled: list[_Number] = []
    """Numbers of messages that were handled and need no reply: first and count of each stretch, in turn."""
    ended: list[EnvelopeEnded] = []
    replies: list[Reply] = []
    probes: list[Probe] = []
    found: list[Found] = []
    freed: list[_Number] = []
    """Offsets of the blocks of shared memory that are let go."""
    table: list[Row] = []

    def __bool__(self) -> bool:
        return bool(self.handled or self.ended or self.replies or self.probes or self.found or self.freed)


class _RawReply(msgspec.Struct, frozen=True, array_like=True):
    number: _Number
    kind: _Number
    payload: msgspec.Raw


class _RawAnswers(msgspec.Struct, frozen=True, array_like=True):
    handled: tuple[_Number, ...]
    ended: tuple[EnvelopeEnded, ...]
    replies: tuple[_RawReply, ...]
    probes: tuple[Probe, ...]
    found: tuple[Found, ...]
    freed: tuple[_Number, ...]
    table: Table


class Packer:
    """Writes frames. Lends large arrays, if it is given a way to; `take_back` if the frame fails."""

    def __init__(self, lend: Lend | None = None, take_back: TakeBack | None = None) -> None:
        self._lend = lend
        self._take_back = take_back
        self._encoder = msgpack.Encoder(enc_hook=self._stand_in)
        self._inline: list[NDArray[Any]] = []
        self._table: list[Row] = []

    def envelopes(self, route_table: RouteTable, first: int, envelopes: Sequence[Envelope]) -> Parts:
        """A frame of messages, numbered from `first` on.

        Each array is copied once, when the parts are written; one that is not C-ordered is first put in
        order. Raises WireError if one of them holds what can't travel.
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
                    raise WireError("it is no request: it can be told, not asked")
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

    def answers(self, answers: Answers) -> Parts:
        """A frame of answers. Raises WireError if a reply holds what can't travel."""
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
        raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} can't travel")


class Unpacker:
    """Reads frames, whose memory must not be written any more.

    Arrays are read-only views that keep the frame's memory alive; only where that is not aligned for an
    array's dtype, this one is copied. Raises WireError, and nothing else, for whatever is wrong with a frame,
    before memory is taken for it.
    """

    def __init__(self, borrow: Borrow | None = None) -> None:
        self._borrow = borrow
        self._arrays: list[NDArray[Any]] = []
        self._envelopes = msgpack.Decoder(_EnvelopesHeader)
        self._answers = msgpack.Decoder(_RawAnswers)
        self._decoders: dict[Any, msgpack.Decoder[Any]] = {}
        self._lists: dict[type[Message], msgpack.Decoder[Any]] = {}
        self._raw_list = msgpack.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=MAX_ENVELOPES)])

    def envelopes(self, route_table: RouteTable, frame: memoryview) -> list[EnvelopeRun]:
        """Decode a frame of envelopes, checked against the route table."""
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

    def answers(self, frame: memoryview, replies_to: Callable[[int], tuple[Any, ...]]) -> Answers:
        """What a frame of answers says. `replies_to`: the types that the request of this number asks for."""
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
        return Answers(
            list(header.handled),
            list(header.ended),
            replies,
            list(header.probes),
            list(header.found),
            list(header.freed),
        )

    def _reply(self, reply: _RawReply, kinds: tuple[Any, ...]) -> Reply:
        if reply.kind >= len(kinds):
            raise WireError(f"the answer to request {reply.number} is of a kind that it doesn't ask for")
        try:
            value = self._decoder(kinds[reply.kind]).decode(reply.payload)
        except Exception as error:  # a type's own __post_init__ may raise anything
            value = WireError(f"the reply can't be decoded: {error}")
        return Reply(reply.number, reply.kind, value)

    def _messages(
        self, kind: type[Message], payloads: msgspec.Raw
    ) -> tuple[Sequence[Message | WireError], bool]:
        """What a run holds, and whether all of it could be decoded."""
        decoder = self._lists.get(kind)
        if decoder is None:
            decoder = self._lists[kind] = self._decoder(Annotated[list[kind], Meta(max_length=MAX_ENVELOPES)])  # type: ignore[valid-type]
        try:
            return decoder.decode(payloads), True
        except Exception:
            return self._one_by_one(kind, payloads), False

    def _one_by_one(self, kind: type[Message], payloads: msgspec.Raw) -> list[Message | WireError]:
        """For what one message has that can't be decoded, the others need not suffer."""
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
            # An array made from a memoryview forgets it; made from an array it holds the memory in its place.
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
