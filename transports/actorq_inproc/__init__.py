"""In-process queues: a message is handed over as the object it is, and nothing is copied."""

from __future__ import annotations

from typing import ClassVar

from actorq.actors import Inbox, LinkSchema, Membership, Peer, TransportStatistics


class InprocTransport:
    """Carries messages between nodes that share one event loop."""

    name: ClassVar[str] = "inproc"
    crosses_processes: ClassVar[bool] = False

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        self._inboxes[node] = inbox

    def route(self, link_schema: LinkSchema) -> Inbox:
        """The target's own inbox: a mailbox bounded by credit is all the queue there is."""
        return self._inboxes[link_schema.peer]

    def address_of(self, node: str) -> Peer | None:
        return None

    def peer_up(self, node: str, peer: Peer) -> None:
        """Nobody is met: everybody is here."""

    def peer_down(self, node: str, peer: str) -> None:
        """Nobody parts either."""

    def statistics(self) -> TransportStatistics:
        return TransportStatistics()

    async def serve(self) -> None:
        """There is nothing to carry."""

    async def close(self) -> None:
        self._inboxes.clear()


__all__ = ["InprocTransport"]
