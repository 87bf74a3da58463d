"""The transport over nng sockets."""

from __future__ import annotations

from typing import ClassVar

from actorq.actors.wire.session.session_transport import SessionTransport
from actorq.actors.wire.session.wire import FrameReceiver
from actorq.actors.wire.tls import Tls

from .wire import NngWire


class NngTransport(SessionTransport):
    """Carries messages over nng sockets: in the file system on one machine, tcp or TLS between machines."""

    name: ClassVar[str] = "nng"

    def make_wire(self, receiver: FrameReceiver, max_bytes: int, tls: Tls | None) -> NngWire:
        return NngWire(receiver, max_bytes, tls)
