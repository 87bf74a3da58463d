"""Endpoints of several nodes on one event loop, over real sockets, that record what they receive."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio

from actorq.actors.wire.session.counters import Counts
from actorq.actors.wire.session.endpoint import Endpoint
from actorq.actors.wire.session.frame_header import Kind, Part
from actorq.actors.wire.session.stream import OrderedStream
from actorq.actors.wire.tls import Tls
from actorq.actors.wire.transport import NextFrame, Peer
from actorq_nng.wire import NngWire

RUN = "run"
SECRET = bytes(range(32))
CONTRACT = b"contract"
MAX_FRAME_BYTES = 1 << 20


class Outbox:
    """What is put into it leaves frame by frame."""

    stream: OrderedStream

    def __init__(self) -> None:
        self.waiting: deque[Sequence[Part]] = deque()
        self.next_frame: NextFrame = lambda: self.waiting.popleft() if self.waiting else None

    def put(self, *frames: bytes) -> None:
        self.waiting.extend((frame,) for frame in frames)
        self.stream.flush()


def nothing() -> None:
    pass


class Watched(Counts):
    """Tells when something was counted."""

    __slots__ = ("tell",)

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = nothing
        super().__init__()
        self.tell = tell

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.tell()


class Contents:
    """Frames from two outboxes; those from the peer go to `received`."""

    def __init__(self, received: Callable[[Kind, memoryview], None]) -> None:
        self.outboxes = Outbox(), Outbox()
        self._received = received

    def next_envelopes(self) -> Sequence[Part] | None:
        return self.outboxes[0].next_frame()

    def next_answers(self) -> Sequence[Part] | None:
        return self.outboxes[1].next_frame()

    def envelopes_received(self, frame: memoryview) -> None:
        self._received(Kind.ENVELOPES, frame)

    def answers_received(self, frame: memoryview) -> None:
        self._received(Kind.ANSWERS, frame)


class End:
    """One node."""

    def __init__(
        self,
        name: str,
        incarnation: int = 1,
        *,
        take: Callable[[str, Kind, memoryview], None] | None = None,
        tls: Tls | None = None,
        **others: Any,
    ) -> None:
        self.name, self.incarnation = name, incarnation
        self.frames: dict[tuple[str, Kind], list[bytes]] = defaultdict(list)
        self._contents: dict[tuple[str, int], Contents] = {}
        self._take = take
        self._news = anyio.Event()
        options = {"run": RUN, "secret": SECRET, "max_frame_bytes": MAX_FRAME_BYTES, **others}
        make_wire = partial(NngWire, tls=tls)
        with patch("actorq.actors.wire.session.endpoint.Counts", lambda: Watched(self._tell)):
            self.endpoint = Endpoint(me=name, incarnation=incarnation, make_wire=make_wire, **options)
        self.addresses: tuple[str, ...] = ()

    def listen(self, address: str) -> Peer:
        self.addresses = (*self.addresses, self.endpoint.listen(address))
        return self.peer

    @property
    def peer(self) -> Peer:
        return Peer(self.name, self.incarnation, self.addresses, "here", 0)

    def peer_up(self, other: End, route_table: bytes = CONTRACT) -> tuple[Outbox, Outbox]:
        contents = Contents(partial(self._received, other.name))
        contents = self._contents.setdefault((other.name, other.incarnation), contents)
        envelopes, answers = contents.outboxes
        envelopes.stream, answers.stream = self.endpoint.peer_up(other.peer, route_table, contents)
        return envelopes, answers

    async def until(self, condition: Callable[[], bool], seconds: float = 50) -> None:
        """Until it holds; looked at whenever a frame arrives or something is counted."""
        with anyio.fail_after(seconds):
            while not condition():
                self._news = anyio.Event()
                await self._news.wait()

    def _received(self, peer: str, kind: Kind, body: memoryview) -> None:
        if self._take is not None:
            self._take(peer, kind, body)
        self.frames[peer, kind].append(bytes(body))
        self._tell()

    def _tell(self) -> None:
        self._news.set()


@asynccontextmanager
async def serving(*ends: End) -> AsyncIterator[None]:
    """All of them at work; closed at the end, without waiting for what hasn't arrived."""
    async with anyio.create_task_group() as group:
        for end in ends:
            await group.start(end.endpoint.serve)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


def two(folder: Path, scheme: str = "ipc", tls: Tls | None = None) -> tuple[End, End]:
    """Nodes "a" and "b", listening."""
    ends = End("a", tls=tls), End("b", tls=tls)
    for end in ends:
        end.listen(f"ipc://{folder}/{end.name}" if scheme == "ipc" else f"{scheme}://127.0.0.1:0")
    return ends


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
