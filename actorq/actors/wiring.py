"""Connecting ports: which links there are, and what an actor finds under its port's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .cell import Cell
from .definition import Port
from .errors import DefinitionError
from .link import Link
from .message import Message
from .ref import Feed, Group, Ref, Topic

MakeLink = Callable[[Cell, Cell, Sequence[type[Message]]], Link]


def wire(cells: Mapping[str, Cell], make_link: MakeLink) -> None:
    """Fill every cell's ports. Raises DefinitionError where a target can't take what a port carries."""
    for cell in cells.values():
        for port in cell.definition.ports.values():
            targets = [cells[name] for name in cell.spec.ports.get(port.name, ())]
            if port.kind == "topic":
                cell.ports[port.name] = _topic(cell, port, cells, make_link)
            elif not targets:
                if port.required:
                    raise DefinitionError(f"{cell.name}: port {port.name} is wired to nobody")
                cell.ports[port.name] = None
            elif port.kind == "feed":
                cell.ports[port.name] = Feed(tuple(target.name for target in targets))
            else:
                cell.ports[port.name] = _refs(cell, port, targets, make_link)


def _refs(cell: Cell, port: Port, targets: Sequence[Cell], make_link: MakeLink) -> Any:
    for target in targets:
        for message in port.messages:
            if message not in target.definition.handlers:
                raise DefinitionError(
                    f"{cell.name}: port {port.name} carries {message.__name__}, "
                    f"which {target.name} does not handle"
                )
    refs: list[Ref[Any]] = [Ref(make_link(cell, target, port.messages)) for target in targets]
    if port.kind == "group":
        return Group(refs)
    if len(refs) > 1:
        raise DefinitionError(f"{cell.name}: port {port.name} is a Ref but is wired to {len(refs)} actors")
    return refs[0]


def _topic(cell: Cell, port: Port, cells: Mapping[str, Cell], make_link: MakeLink) -> Topic[Any]:
    """A publisher's subscribers are those whose feeds name it and carry what the topic publishes."""
    refs: dict[type[Message], list[Ref[Any]]] = {message: [] for message in port.messages}
    for subscriber in cells.values():
        for feed in subscriber.definition.ports.values():
            if feed.kind == "feed" and cell.name in subscriber.spec.ports.get(feed.name, ()):
                carried = [message for message in port.messages if message in feed.messages]
                ref: Ref[Any] = Ref(make_link(cell, subscriber, carried))
                for message in carried:
                    refs[message].append(ref)
    return Topic(refs)
