"""A transport within one process that encodes and decodes whatever it carries.

Actors that work over it lean on no shared memory: every message and reply arrives as a copy, its arrays
read-only, and what can't cross a process border shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from actorq.actors import Border, Inbox, Membership, Neighbour, Peer, TransportStatistics

MAX_FRAME_BYTES = 1 << 40
"""A copy in the same process needs no other bound than the mailboxes'."""


class EncodedTransport:
    """Carries letters between nodes that share one event loop, each by way of its frame."""

    name: ClassVar[str] = "encoded"
    crosses_processes: ClassVar[bool] = False

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}
        self._neighbours: dict[tuple[str, str], Neighbour] = {}

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        self._inboxes[node] = inbox

    def route(self, border: Border) -> Inbox:
        there = (border.neighbour, border.me)
        letters = _Stream(lambda frame: self._neighbours[there].letters_received(frame))
        answers = _Stream(lambda frame: self._neighbours[there].answers_received(frame))
        neighbour = Neighbour(border, self._inboxes[border.me], MAX_FRAME_BYTES)
        neighbour.meet(letters, answers, None)
        self._neighbours[border.me, border.neighbour] = neighbour
        return neighbour

    def whereabouts(self, node: str) -> Peer | None:
        return None

    def meet(self, node: str, peer: Peer) -> None:
        """Nobody is met: everybody is here."""

    def part(self, node: str, peer: str) -> None:
        """Nobody parts either."""

    def statistics(self) -> TransportStatistics:
        return TransportStatistics()

    async def serve(self) -> None:
        """There is nothing to carry between turns."""

    async def close(self) -> None:
        self._inboxes.clear()


class _Stream:
    """Carries each frame at once."""

    source: Callable[[], Any]

    def __init__(self, receive: Callable[[memoryview], None]) -> None:
        self._receive = receive

    def flush(self) -> None:
        while (parts := self.source()) is not None:
            self._receive(memoryview(b"".join(parts)))

    wake = flush
