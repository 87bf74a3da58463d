"""What may cross from one node to another: both sides number it alike, and nothing else is decoded."""

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
    """One type of message from one actor to another."""

    sender: str
    target: str
    message: type[Message]


class RouteTable:
    """The ways from one node to another, in an order that follows from the topology alone.

    Raises DefinitionError for a type that can't travel.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self.numbers = {(route.sender, route.target, route.message): n for n, route in enumerate(self.routes)}
        self.latest = tuple(route.message.delivery == "latest" for route in self.routes)
        self.sizes = tuple(fixed_size(route.message) for route in self.routes)
        """What each way's messages are reckoned to take, or VARIABLE."""
        types = {route.message: None for route in self.routes}
        self._registry = Registry(*types)
        self.replies = tuple(self._replies(route.message) for route in self.routes)
        """What each way's requests may be answered with, by name; () for other messages."""
        self.digest = hashlib.sha256("\n".join(self._lines()).encode()).digest()
        """Equal on both sides if they agree on every way and on every field of what travels there."""

    def _replies(self, message: type[Message]) -> tuple[Any, ...]:
        """In an order that is the same everywhere: to Python `A | B` is `B | A`, and it keeps either."""
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
    """What the actors of node `source` may send to those of node `target`."""
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
