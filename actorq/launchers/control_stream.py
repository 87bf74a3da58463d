"""Control stream: typed messages in both directions over an ordered byte stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import msgspec
from anyio.abc import ByteStream

from .control_frames import PREFIX_BYTES, Decoder, FrameError, encode, lengths, memory

MAX_FRAME_BYTES = 4 * 2**30
"""Bound on a frame read from a process that this run started itself."""

_JOINED_BYTES = 64 * 1024
"""Parts up to this size are copied together rather than written separately."""
_READ_BYTES = 64 * 1024
_READ_AHEAD_BYTES = 1024 * 1024

__all__ = ["MAX_FRAME_BYTES", "ControlStream", "FrameError"]


class ControlStream:
    """Sends tagged Structs and receives those of the type `incoming`, usually a union.

    Fields of type Any may hold any actor state, arrays included, which arrive exactly and in memory of their
    own. `serve` writes, in a task of its own; one task reads. When the peer closes the stream both end
    without an error: the cause is detected elsewhere.
    """

    def __init__(
        self, byte_stream: ByteStream, incoming: Any, *, max_frame_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        self._bytes = byte_stream
        self._max_frame_bytes = max_frame_bytes
        # Reading.
        self._decoder = Decoder(incoming)
        self._read = memoryview(b"")
        # Writing.
        self._waiting: list[bytes | memoryview] = []
        self._queued = self._written = 0
        self._news = self._wrote = anyio.Event()
        self._peer_is_gone = False

    # Writing.

    async def send(self, message: msgspec.Struct) -> None:
        """Return when this message, and all before it, is written to the operating system.

        Raises FrameError if it can't be encoded and anyio.BrokenResourceError if the peer is gone. Cancelled,
        it is sent all the same.
        """
        self.send_soon(message)
        await self.flush()

    def send_soon(self, message: msgspec.Struct) -> None:
        """Queue the message: everything queued before the writer's turn is written at once. On the loop only.

        Its arrays must not change any more; the rest of it may. Raises FrameError if it can't be encoded. If
        the peer is gone it is dropped. The queue is unbounded: the callers can't wait, a dropped control
        message would make both sides inconsistent, and their rate is bounded by other limits.
        """
        parts = encode(message, self._max_frame_bytes)
        if not self._peer_is_gone:
            self._waiting += parts
            self._queued += sum(len(part) for part in parts)
            self._news.set()

    @property
    def waiting_bytes(self) -> int:
        """Number of queued bytes that are not written yet."""
        return self._queued - self._written

    async def flush(self) -> None:
        """Return when everything queued now has been written. Raises anyio.BrokenResourceError."""
        until = self._queued
        while self._written < until and not self._peer_is_gone:
            await self._wrote.wait()
        if self._peer_is_gone:
            raise anyio.BrokenResourceError

    async def serve(self) -> None:
        """Write queued messages until the peer is gone. Cancelled in a write, the stream is broken."""
        try:
            while True:
                while self._waiting:
                    parts, self._waiting = self._waiting, []
                    await self._write(parts)
                self._news = anyio.Event()
                await self._news.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._peer_is_gone = True
            self._waiting.clear()
            self._wrote.set()

    async def _write(self, parts: list[bytes | memoryview]) -> None:
        for piece in _joined(parts):
            await self._bytes.send(piece)  # type: ignore[arg-type]  # it takes any buffer
            self._written += len(piece)
        self._wrote.set()
        self._wrote = anyio.Event()

    # Reading.

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """The next message; a stream that ends within a message has ended as well.

        Raises FrameError for bytes that are not a frame of an incoming message; the stream can't be read
        after that, nor after a cancellation.
        """
        try:
            return await self._receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise StopAsyncIteration from None

    async def _receive(self) -> Any:
        prefix = bytearray(PREFIX_BYTES)
        await self._fill(memoryview(prefix))
        of_head, of_arrays = lengths(prefix, self._max_frame_bytes)
        head = bytearray(of_head)
        await self._fill(memoryview(head))
        for array in self._decoder.open(head, of_arrays):
            if array.nbytes:
                await self._fill(memory(array))
        return self._decoder.message()

    async def _fill(self, into: memoryview) -> None:
        while into:
            if not self._read:
                wanted = max(_READ_BYTES, min(len(into), _READ_AHEAD_BYTES))
                self._read = memoryview(await self._bytes.receive(wanted))
            taken = min(len(into), len(self._read))
            into[:taken] = self._read[:taken]
            into, self._read = into[taken:], self._read[taken:]

    async def aclose(self) -> None:
        """Close the byte stream, once no task reads or serves. Queued messages are dropped."""
        self._peer_is_gone = True
        self._wrote.set()
        await self._bytes.aclose()


def _joined(parts: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes, with small parts joined."""
    small: list[bytes | memoryview] = []
    for part in parts:
        if len(part) <= _JOINED_BYTES:
            small.append(part)
            continue
        if small:
            yield b"".join(small)
            small.clear()
        yield part
    if small:
        yield b"".join(small)
