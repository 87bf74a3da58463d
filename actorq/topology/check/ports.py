"""Checks of ports: each is wired to an actor that handles its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actorq.actors.actor import Actor
from actorq.actors.definition import Port
from actorq.actors.message import Message
from actorq.topology.schema import Topology
from actorq.topology.suggest import quoted, suggestion

from .members import count_seen_from, seen_from
from .problems import Problems

Roles = Mapping[str, type[Actor]]
"""Actor name to class, of the actors whose role was found."""


def check_ports(topology: Topology, roles: Roles, known: list[str], problems: Problems) -> None:
    """`known`: the declared actors, including wrong ones."""
    for name, actor in topology.actors.items():
        for port_name, wired in actor.ports.items():
            where = f"actors.{name}.ports.{port_name}"
            targets = _targets(wired)
            for target in targets:
                if target not in known:
                    problems.add(where, f'unknown actor "{target}"', suggestion(target, known, "actors"))
            for target in {target for target in targets if targets.count(target) > 1}:
                problems.add(where, f'"{target}" is there twice')
        if name in roles:
            _check_ports_of(name, topology, roles, problems)


def wiring(topology: Topology, name: str, instance: int) -> dict[str, tuple[str, ...]]:
    """An actor's ports, in this instance of its group, each with the members it is wired to."""
    return {
        port: tuple(
            member for target in _targets(wired) for member in seen_from(name, instance, target, topology)
        )
        for port, wired in topology.actors[name].ports.items()
    }


def _targets(wired: str | tuple[str, ...]) -> tuple[str, ...]:
    return (wired,) if isinstance(wired, str) else wired


def _check_ports_of(name: str, topology: Topology, roles: Roles, problems: Problems) -> None:
    cls, wired = roles[name], topology.actors[name].ports
    ports = cls.definition.ports
    base = f"actors.{name}.ports"
    for port_name in wired:
        if port_name not in ports:
            wirable = [port.name for port in ports.values() if port.kind != "topic"]
            hint = suggestion(port_name, wirable, f"ports of {cls.__name__}")
            problems.add(f"{base}.{port_name}", "unknown port", hint)
    for port in ports.values():
        where = f"{base}.{port.name}"
        if port.kind == "topic":
            if port.name in wired:
                hint = "its subscribers wire it, each by a Feed port of its own"
                problems.add(where, f"{port.describe()} is published, not wired", hint)
        elif port.name in wired:
            _check_port(where, name, port, topology, roles, problems)
        elif port.required and not (problems.at(base) or problems.touch(where)):
            problems.add(where, f"missing; {port.describe()} has to be wired", _candidates(port, roles))


def _check_port(
    where: str, name: str, port: Port, topology: Topology, roles: Roles, problems: Problems
) -> None:
    wired = topology.actors[name].ports[port.name]
    targets = _targets(wired)
    if not targets:
        problems.add(where, "an empty list", _candidates(port, roles))
    if port.kind == "ref":
        _check_single(where, name, port, wired, topology, problems)
    if port.kind == "feed":
        _check_published(where, port, targets, roles, problems)
    else:
        for target in targets:
            _check_handled(where, port, target, roles, problems)


def _check_single(
    where: str, name: str, port: Port, wired: Any, topology: Topology, problems: Problems
) -> None:
    if not isinstance(wired, str):
        problems.add(where, f"a list, but {port.describe()} is wired to one actor", "Group[…] takes several")
        return
    if wired not in topology.actors:
        return
    count, seen = topology.actors[wired].count, count_seen_from(name, wired, topology)
    if seen > 1:
        several = f"has count {count}"
        if seen > count:
            several = f"is {seen} actors, {count} in each instance of its group"
        problem = f'"{wired}" {several}, but {port.describe()} is wired to one actor'
        problems.add(where, problem, f"declare the port as {port.describe().replace('Ref', 'Group', 1)}")


def _check_handled(where: str, port: Port, target: str, roles: Roles, problems: Problems) -> None:
    if target not in roles:
        return
    handled = roles[target].definition.handlers
    unhandled = [message for message in port.messages if message not in handled]
    if unhandled:
        problem = f'"{target}" ({roles[target].__name__}) does not handle {_names(unhandled)}'
        problems.add(where, problem, f"it handles {_names(handled) or 'no messages'}")


def _check_published(
    where: str, port: Port, targets: tuple[str, ...], roles: Roles, problems: Problems
) -> None:
    """Each target publishes something of the feed, and each of its messages is published by some target."""
    if not all(target in roles for target in targets):
        return
    published = {target: _published(roles[target]) for target in targets}
    for target, messages in published.items():
        if not set(port.messages) & messages:
            problem = f'"{target}" ({roles[target].__name__}) does not publish {_names(port.messages)}'
            hint = f"it publishes {_names(messages) or 'nothing: it has no Topic'}"
            problems.add(where, problem, hint)
            return
    missing = [
        message for message in port.messages if not any(message in known for known in published.values())
    ]
    if missing and targets:
        problems.add(where, f"no actor it is wired to publishes {_names(missing)}", _candidates(port, roles))


def _published(cls: type[Actor]) -> set[type[Message]]:
    ports = cls.definition.ports.values()
    return {message for port in ports if port.kind == "topic" for message in port.messages}


def _candidates(port: Port, roles: Roles) -> str:
    """The actors that a port could be wired to."""
    done = "published" if port.kind == "feed" else "handled"
    fitting = [
        name
        for name, cls in roles.items()
        if set(port.messages) <= (_published(cls) if port.kind == "feed" else cls.definition.handlers.keys())
    ]
    return f"{_names(port.messages)}: {done} by {quoted(fitting) or 'no actor'}"


def _names(messages: Any) -> str:
    return ", ".join(sorted(message.__name__ for message in messages))
