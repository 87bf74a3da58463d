"""Route table: the numbered routes from one node to another. Both ends derive the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actorq.actors.definition import members
from actorq.actors.message import Message, Request, fixed_size, reply_type
from actorq.actors.runtime.wiring import connections
from actorq.actors.spec import MAIN, OUTSIDE, ActorSpec

from .registry import Registry


@dataclass(frozen=True, slots=True)
class Route:
    """Permission to send one type of message from one actor to another."""

    sender: str
    target: str
    message: type[Message]


class RouteTable:
    """The routes from one node to another, in an order that follows from the topology.

    Raises DefinitionError for a type that can't be encoded.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self.numbers = {(route.sender, route.target, route.message): n for n, route in enumerate(self.routes)}
        self.latest = tuple(route.message.delivery == "latest" for route in self.routes)
        self.sizes = tuple(fixed_size(route.message) for route in self.routes)
        """Accounted size in bytes of each route's messages, or VARIABLE."""
        types = {route.message: None for route in self.routes}
        self._registry = Registry(*types)
        self.replies = tuple(self._replies(route.message) for route in self.routes)
        """The reply types of each route's requests, in the order of their names; () for other messages."""
        self.digest = hashlib.sha256("\n".join(self._lines()).encode()).digest()
        """Equal on both sides if they agree on every route and on every field of its types."""

    def _replies(self, message: type[Message]) -> tuple[Any, ...]:
        """The reply types in an order that is the same everywhere: `A | B` equals `B | A`, and Python keeps
        either.
        """
        if not issubclass(message, Request):
            return ()
        return tuple(sorted(members(reply_type(message)), key=self._registry.name_of))

    def _lines(self) -> Iterable[str]:
        name = self._registry.name_of
        for route, replies in zip(self.routes, self.replies, strict=True):
            answers = " | ".join(map(name, replies))
            yield f"{route.sender} {route.target} {name(route.message)} {route.message.delivery} -> {answers}"
        yield from self._registry.layouts()


def route_table(specs: Mapping[str, ActorSpec], source: str, target: str) -> RouteTable:
    """The routes from the actors of node `source` to those of node `target`."""
    found = {
        Route(connection.sender, connection.target, message): None
        for connection in connections(specs)
        if specs[connection.sender].node == source and specs[connection.target].node == target
        for message in connection.carries
    }
    if source == MAIN:
        for spec in specs.values():
            if spec.node == target:
                handlers = spec.cls.definition.complete().handlers
                found.update({Route(OUTSIDE, spec.name, message): None for message in handlers})
    return RouteTable(found)
