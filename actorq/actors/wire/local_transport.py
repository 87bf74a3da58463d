"""Base class of transports between nodes that share one process and event loop: there are no connections."""

from __future__ import annotations

from typing import ClassVar

from actorq.actors.runtime.inbox import Inbox
from actorq.actors.statistics import TransportStatistics

from .transport import Membership, Peer


class LocalTransport:
    """A `Transport` within one process, but for `name` and `route`, which a subclass adds."""

    crosses_processes: ClassVar[bool] = False

    def __init__(self) -> None:
        self.inboxes: dict[str, Inbox] = {}
        """By node."""

    def open(self, node: str, inbox: Inbox, membership: Membership) -> None:
        self.inboxes[node] = inbox

    def address_of(self, node: str) -> Peer | None:
        return None

    def peer_up(self, node: str, peer: Peer) -> None:
        """No peer is in another process."""

    def peer_down(self, node: str, peer: str) -> None:
        """No peer is in another process."""

    def statistics(self) -> TransportStatistics:
        return TransportStatistics()

    async def serve(self) -> None:
        """There is nothing to carry between turns of the loop."""

    async def close(self) -> None:
        self.inboxes.clear()
