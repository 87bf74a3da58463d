"""Port wiring: which actor may send which message types to which, as refs, groups, feeds and topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actorq.actors.definition import Port
from actorq.actors.errors import DefinitionError
from actorq.actors.message import Message
from actorq.actors.ref import Feed, Group, Ref, Topic
from actorq.actors.spec import ActorSpec
from actorq.actors.supervision.watch import WatchNotice, watch_pairs

from .actor_cell import ActorCell
from .channel import Channel
from .inbox import Inbox

MakeLink = Callable[[ActorCell, ActorSpec, Sequence[type[Message]]], Channel]
FindInbox = Callable[[str, str], Inbox]
Specs = Mapping[str, ActorSpec]
Target = tuple[str, tuple[type[Message], ...]]


@dataclass(frozen=True, slots=True)
class PortConnection:
    """One port's connection to one actor, with the message types it carries; or a death watch's."""

    sender: str
    target: str
    carries: tuple[type[Message], ...]


def connections(specs: Specs) -> Iterator[PortConnection]:
    """All connections: of ports, in file order, then from watched actors to their possible watchers.

    Raises DefinitionError where a target doesn't handle what a port carries, or a required port has no
    target.
    """
    neighbors = []
    for spec in specs.values():
        for port in spec.cls.definition.complete().ports.values():
            for target, carries in _targets(spec, port, specs):
                neighbors.append((spec.name, target))
                yield PortConnection(spec.name, target, carries)
    for watched, watcher in watch_pairs(neighbors, specs):
        yield PortConnection(watched, watcher, (WatchNotice,))


def senders(target: str, message: type[Message], specs: Specs) -> tuple[str, ...]:
    """The actors whose ports carry this message type to the target, in file order."""
    found = (each for each in connections(specs) if each.target == target and message in each.carries)
    return tuple(dict.fromkeys(each.sender for each in found))


def wire(cells: Mapping[str, ActorCell], specs: Specs, make_link: MakeLink, inbox_of: FindInbox) -> None:
    """Fill the ports of these cells, whose targets may be any of `specs`. Raises as `connections`."""
    for cell in cells.values():
        for port in cell.definition.ports.values():
            cell.ports[port.name] = _end(cell, port, specs, make_link)
    for connection in connections(specs):
        sender, target = cells.get(connection.sender), cells.get(connection.target)
        if WatchNotice not in connection.carries:
            if target is not None:
                target.note_sender(connection.sender, connection.carries)
            continue
        if sender is not None:
            sender.watchers[connection.target] = inbox_of(sender.spec.node, specs[connection.target].node)
        if target is not None:
            target.watchable.add(connection.sender)


def _end(cell: ActorCell, port: Port, specs: Specs, make_link: MakeLink) -> Any:
    if port.kind == "feed":
        publishers = cell.spec.ports.get(port.name, ())
        list(_targets(cell.spec, port, specs))
        return Feed(publishers) if publishers else None
    found = list(_targets(cell.spec, port, specs))
    refs: list[Ref[Any]] = [Ref(make_link(cell, specs[name], carries)) for name, carries in found]
    if port.kind == "topic":
        return Topic(_by_type(port, refs, [carries for _, carries in found]))
    if not refs:
        return None
    if port.kind == "group":
        return Group(refs)
    return refs[0]


def _targets(spec: ActorSpec, port: Port, specs: Specs) -> Iterator[Target]:
    """The actors that a port sends to; none for a feed, which only receives."""
    if port.kind == "topic":
        yield from _subscribers(spec, port, specs)
        return
    names = spec.ports.get(port.name, ())
    if not names and port.required:
        raise DefinitionError(f"{spec.name}: port {port.name} is not wired to any actor")
    if port.kind == "feed":
        return
    if port.kind == "ref" and len(names) > 1:
        raise DefinitionError(f"{spec.name}: port {port.name} is a Ref but is wired to {len(names)} actors")
    for name in names:
        _check_carries(spec, port, specs[name])
        yield name, tuple(port.messages)


def _check_carries(spec: ActorSpec, port: Port, target: ActorSpec) -> None:
    for message in port.messages:
        if message not in target.cls.definition.complete().handlers:
            raise DefinitionError(
                f"{spec.name}: port {port.name} carries {message.__name__}, "
                f"which {target.name} does not handle"
            )


def _subscribers(spec: ActorSpec, port: Port, specs: Specs) -> Iterator[Target]:
    """A publisher's subscribers: the actors whose feeds name it and carry what the topic publishes."""
    for subscriber in specs.values():
        for feed in subscriber.cls.definition.complete().ports.values():
            if feed.kind == "feed" and spec.name in subscriber.ports.get(feed.name, ()):
                yield subscriber.name, tuple(m for m in port.messages if m in feed.messages)


def _by_type(
    port: Port, refs: Sequence[Ref[Any]], carried: Sequence[tuple[type[Message], ...]]
) -> dict[type[Message], list[Ref[Any]]]:
    return {
        message: [ref for ref, carries in zip(refs, carried, strict=True) if message in carries]
        for message in port.messages
    }
