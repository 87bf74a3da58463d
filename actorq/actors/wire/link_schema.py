"""Link schema: what two nodes may send each other. Both derive it from the topology."""

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
    """Schema of the link between the node `me`, in this process, and one peer."""

    specs: Mapping[str, ActorSpec]
    me: str
    peer: str
    incarnation: int
    """Incarnation of the node `me`."""

    @cached_property
    def out(self) -> RouteTable:
        """Route table of what may be sent to the peer. Raises DefinitionError for a type that can't be
        encoded.
        """
        return route_table(self.specs, self.me, self.peer)

    @cached_property
    def into(self) -> RouteTable:
        """Route table of what the peer may send."""
        return route_table(self.specs, self.peer, self.me)

    @cached_property
    def layout(self) -> LogLayout:
        """Layout of the peer's delivery log."""
        return LogLayout(self.specs, self.peer)

    @cached_property
    def source(self) -> int:
        """Index of the peer in the delivery log of `me`."""
        return LogLayout(self.specs, self.me).sources[self.peer]

    @property
    def ordinal(self) -> int:
        """How often `me` was started before."""
        return self.incarnation & ((1 << ORDINAL_BITS) - 1)

    @cached_property
    def digest(self) -> bytes:
        """Digest of both route tables and their types, equal on both sides if these are."""
        digests = sorted([(self.me, self.out.digest), (self.peer, self.into.digest)])
        return digests[0][1] + digests[1][1]
