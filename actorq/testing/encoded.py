"""Transport within one process that encodes and decodes everything it carries.

Actors that work over it rely on no shared memory: every message and reply arrives as a copy, its arrays
read-only, and anything that can't be sent between processes fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from actorq.actors import Inbox, LinkSchema, PeerSession
from actorq.actors.wire.local_transport import LocalTransport
from actorq.actors.wire.transport import NextFrame

MAX_FRAME_BYTES = 1 << 40
"""Copies in the same process need no other bound than the mailboxes'."""


class EncodedTransport(LocalTransport):
    """Carries messages between nodes that share one event loop, encoding each as a frame."""

    name: ClassVar[str] = "encoded"

    def __init__(self) -> None:
        super().__init__()
        self._peer_sessions: dict[tuple[str, str], PeerSession] = {}

    def route(self, link_schema: LinkSchema) -> Inbox:
        there = (link_schema.peer, link_schema.me)
        peer_session = PeerSession(link_schema, self.inboxes[link_schema.me], MAX_FRAME_BYTES)
        envelopes = _Stream(
            peer_session.next_envelopes, lambda frame: self._peer_sessions[there].envelopes_received(frame)
        )
        answers = _Stream(
            peer_session.next_answers, lambda frame: self._peer_sessions[there].answers_received(frame)
        )
        peer_session.peer_up(envelopes, answers, None)
        self._peer_sessions[link_schema.me, link_schema.peer] = peer_session
        return peer_session


class _Stream:
    """Delivers each frame at once."""

    def __init__(self, next_frame: NextFrame, receive: Callable[[memoryview], None]) -> None:
        self._next_frame = next_frame
        self._receive = receive

    def flush(self) -> None:
        while (parts := self._next_frame()) is not None:
            self._receive(memoryview(b"".join(parts)))

    wake = flush
