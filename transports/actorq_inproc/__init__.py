"""In-process transport: a message is passed as the object it is, and nothing is copied."""

from __future__ import annotations

from typing import ClassVar

from actorq.actors import Inbox, LinkSchema
from actorq.actors.wire.local_transport import LocalTransport


class InprocTransport(LocalTransport):
    """Carries messages between nodes that share one event loop."""

    name: ClassVar[str] = "inproc"

    def route(self, link_schema: LinkSchema) -> Inbox:
        """The target's own inbox: the mailbox, bounded by credit, is the only queue."""
        return self.inboxes[link_schema.peer]


__all__ = ["InprocTransport"]
