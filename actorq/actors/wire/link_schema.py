"""What two nodes have agreed on before they meet. It follows from the topology alone, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from actorq.actors.spec import ActorSpec
from actorq.actors.supervision.delivery_log import LogLayout
from actorq.actors.wire.node_incarnation import ORDINAL_BITS

from .route_table import RouteTable, route_table


@dataclass(frozen=True)
class LinkSchema:
    """Between the node `me`, in this process, and its peer."""

    specs: Mapping[str, ActorSpec]
    me: str
    peer_session: str
    incarnation: int
    """Of the node `me`."""

    @cached_property
    def out(self) -> RouteTable:
        """What may be sent there. Raises DefinitionError for a type that can't travel."""
        return route_table(self.specs, self.me, self.peer_session)

    @cached_property
    def into(self) -> RouteTable:
        """What may come from there."""
        return route_table(self.specs, self.peer_session, self.me)

    @cached_property
    def layout(self) -> LogLayout:
        """Of the peer's delivery log."""
        return LogLayout(self.specs, self.peer_session)

    @cached_property
    def source(self) -> int:
        """The peer's index in the delivery log of `me`."""
        return LogLayout(self.specs, self.me).sources[self.peer_session]

    @property
    def ordinal(self) -> int:
        """How often `me` was started before."""
        return self.incarnation & ((1 << ORDINAL_BITS) - 1)

    @cached_property
    def digest(self) -> bytes:
        """Equal on both sides if they agree on everything that may be sent."""
        digests = sorted([(self.me, self.out.digest), (self.peer_session, self.into.digest)])
        return digests[0][1] + digests[1][1]
