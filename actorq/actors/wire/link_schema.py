"""What two nodes have agreed on before they meet. It follows from the topology alone, on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from actorq.actors.spec import ActorSpec
from actorq.actors.supervision.delivery_log import Layout

from .route_table import Contract, contract
from .transport import ORDINAL_BITS


@dataclass(frozen=True)
class Border:
    """Between the node `me`, in this process, and its neighbour."""

    specs: Mapping[str, ActorSpec]
    me: str
    neighbour: str
    incarnation: int
    """Of the node `me`."""

    @cached_property
    def out(self) -> Contract:
        """What may be sent there. Raises DefinitionError for a type that can't travel."""
        return contract(self.specs, self.me, self.neighbour)

    @cached_property
    def into(self) -> Contract:
        """What may come from there."""
        return contract(self.specs, self.neighbour, self.me)

    @cached_property
    def layout(self) -> Layout:
        """Of the neighbour's ledger."""
        return Layout(self.specs, self.neighbour)

    @cached_property
    def source(self) -> int:
        """The neighbour's index in the ledger of `me`."""
        return Layout(self.specs, self.me).sources[self.neighbour]

    @property
    def ordinal(self) -> int:
        """How often `me` was started before."""
        return self.incarnation & ((1 << ORDINAL_BITS) - 1)

    @cached_property
    def digest(self) -> bytes:
        """Equal on both sides if they agree on everything that may be sent."""
        digests = sorted([(self.me, self.out.digest), (self.neighbour, self.into.digest)])
        return digests[0][1] + digests[1][1]
