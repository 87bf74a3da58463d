"""Actor definitions: the handlers, ports and tables that an actor class declares by its annotations."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from .errors import DefinitionError
from .message import Message, Request, reply_type
from .ref import Feed, Group, Ref, Topic

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SERIAL = 0


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """Options of the handlers marked by one `@handles(...)`."""

    concurrent: int = SERIAL
    thread: bool = False


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler: one method and the message type it handles."""

    method: str
    message: type[Message]
    concurrent: int
    thread: bool


@dataclass(frozen=True, slots=True)
class Port:
    """One annotated port of an actor class."""

    name: str
    kind: Literal["ref", "group", "feed", "topic"]
    messages: tuple[type[Message], ...]
    required: bool

    def describe(self) -> str:
        carried = " | ".join(message.__name__ for message in self.messages)
        return f"{self.kind.capitalize()}[{carried}]"


class _TableMarker:
    """Marks an annotation as a table of the topology file."""


_TABLE = _TableMarker()

Table = Annotated[T, _TABLE]
"""`agent: Table[Agent]` gives the actor the file's `[agent]` table, checked as an `Agent`."""

_PORT_KINDS: dict[Any, Literal["ref", "group", "feed", "topic"]] = {
    Ref: "ref",
    Group: "group",
    Feed: "feed",
    Topic: "topic",
}
_MAY_BE_PORT = re.compile(r"\b(Ref|Group|Feed|Topic|Table)\[")
_MARK = "__actorq_handles__"


@overload
def handles(method: F, /) -> F: ...
@overload
def handles(*, concurrent: int = ..., thread: bool = ...) -> Callable[[F], F]: ...
def handles(method: Any = None, /, *, concurrent: int = SERIAL, thread: bool = False) -> Any:
    """Mark a method as the handler of the message type that its parameter is annotated with.

    Handlers of an actor run one at a time. `concurrent=16` lets up to 16 messages of the type be handled at
    once, beside the others: for handlers that wait. `thread=True` runs a plain `def` in a thread, still one
    at a time.
    """
    if concurrent < 0:
        raise DefinitionError(f"@handles(concurrent={concurrent}): must be 1 or more")
    if concurrent and thread:
        raise DefinitionError("@handles: concurrent and thread can't be combined")

    def mark(function: F) -> F:
        is_async = inspect.iscoroutinefunction(function)
        if thread and is_async:
            raise DefinitionError(f"{function.__qualname__}: @handles(thread=True) takes a plain def")
        if not thread and not is_async:
            raise DefinitionError(
                f"{function.__qualname__}: a handler is an async def; a plain def needs @handles(thread=True)"
            )
        setattr(function, _MARK, HandlerOptions(concurrent, thread))
        return function

    return mark(method) if method is not None else mark


@dataclass(slots=True)
class Definition:
    """Handlers, ports and tables of one actor class; unresolved names are resolved at first use."""

    cls: type
    scopes: Sequence[Mapping[str, Any]]
    handlers: dict[type[Message], Handler] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    tables: dict[str, type] = field(default_factory=dict)
    unresolved: dict[str, str] = field(default_factory=dict)

    def complete(self) -> Definition:
        """Resolve the remaining names. Raises DefinitionError naming those that can't be resolved."""
        if self.unresolved:
            self.read()
            if self.unresolved:
                names = ", ".join(f"{where} ({why})" for where, why in self.unresolved.items())
                raise DefinitionError(
                    f"{self.cls.__qualname__}: these annotations can't be resolved: {names}"
                )
        return self

    def read(self) -> None:
        self.handlers, self.ports, self.tables, self.unresolved = {}, {}, {}, {}
        for method, function, marked in _marked_methods(self.cls):
            self._read_handler(method, function, marked)
        for name, annotation, owner in _annotations(self.cls):
            self._read_annotation(name, annotation, owner)
        for port in self.ports.values():
            if port.kind == "feed" and not self.unresolved:
                self._check_feed(port)

    def _read_handler(self, method: str, function: Any, marked: HandlerOptions) -> None:
        where = f"{self.cls.__qualname__}.{method}"
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) != 2:
            raise DefinitionError(f"{where}: a handler takes self and one message, annotated with its type")
        if inspect.iscoroutinefunction(function) == marked.thread:
            kind = "a plain def" if marked.thread else "an async def"
            raise DefinitionError(f"{where}: the handler it replaces is {kind}; mark it with @handles anew")
        annotation = parameters[1].annotation
        if annotation is inspect.Parameter.empty:
            raise DefinitionError(
                f"{where}: annotate {parameters[1].name!r} with the message type it handles"
            )
        resolved, why = self._resolve(annotation, function)
        if why:
            self.unresolved[method] = why
            return
        for message in members(resolved):
            if not (isinstance(message, type) and issubclass(message, Message)):
                raise DefinitionError(f"{where}: handles {message!r}, which is not a subclass of Message")
            if issubclass(message, Request) and message.delivery == "latest":
                raise DefinitionError(
                    f"{where}: {message.__name__} is a request, and each of these is answered: "
                    'delivery = "latest" is for messages that are told'
                )
            other = self.handlers.get(message)
            if other is not None:
                raise DefinitionError(
                    f"{self.cls.__qualname__}: {message.__name__} has two handlers, "
                    f"{other.method} and {method}"
                )
            self._check_reply(where, function, message)
            self.handlers[message] = Handler(method, message, marked.concurrent, marked.thread)

    def _check_reply(self, where: str, function: Any, message: type[Message]) -> None:
        annotated = function.__annotations__.get("return", inspect.Parameter.empty)
        if annotated is inspect.Parameter.empty:
            return
        answered, why = self._resolve(annotated, function)
        if why:
            self.unresolved[f"{where} return"] = why
            return
        answered = type(None) if answered is None else answered
        expected: Any = reply_type(message) if issubclass(message, Request) else type(None)
        if answered is Any or answered == expected or set(members(answered)) <= set(members(expected)):
            return
        if isinstance(answered, type) and isinstance(expected, type) and issubclass(answered, expected):
            return
        name = getattr(expected, "__name__", repr(expected)) if expected is not type(None) else "None"
        raise DefinitionError(f"{where}: answers {answered!r}, but {message.__name__} asks for {name}")

    def _read_annotation(self, name: str, annotation: Any, owner: type) -> None:
        resolved, why = self._resolve(annotation, owner)
        if why:
            if _MAY_BE_PORT.search(annotation):
                self.unresolved[name] = why
            return
        if get_origin(resolved) is Annotated and _TABLE in resolved.__metadata__:
            self.tables[name] = get_args(resolved)[0]
            return
        options = members(resolved)
        required = type(None) not in options
        for option in options:
            kind = _PORT_KINDS.get(get_origin(option))
            if kind is not None:
                self.ports[name] = Port(name, kind, self._carried(name, option), required)

    def _carried(self, name: str, annotation: Any) -> tuple[type[Message], ...]:
        carried = members(get_args(annotation)[0])
        for message in carried:
            if not (isinstance(message, type) and issubclass(message, Message)):
                raise DefinitionError(
                    f"{self.cls.__qualname__}.{name} carries {message!r}, which is not a subclass of Message"
                )
        return carried

    def _check_feed(self, port: Port) -> None:
        for message in port.messages:
            if message not in self.handlers:
                raise DefinitionError(
                    f"{self.cls.__qualname__}.{port.name} feeds {message.__name__}, "
                    f"but no method of {self.cls.__qualname__} handles it"
                )

    def _resolve(self, annotation: Any, owner: Any) -> tuple[Any, str]:
        """The annotation's value, or the reason why it has none."""
        if not isinstance(annotation, str):
            return annotation, ""
        module = sys.modules.get(owner.__module__)
        local = {name: value for scope in self.scopes for name, value in scope.items()}
        # One holder for each annotation: get_type_hints fails whole when one name is missing.
        holder = type("holder", (), {"__annotations__": {"it": annotation}})
        try:
            return get_type_hints(holder, vars(module) if module else {}, local, include_extras=True)[
                "it"
            ], ""
        except Exception as error:
            return None, f"{annotation}: {error}"


def members(annotation: Any) -> tuple[Any, ...]:
    """A union's members; anything else as itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _marked_methods(cls: type) -> Iterator[tuple[str, Any, HandlerOptions]]:
    """Handlers by method name, the most derived first found; an override needs no second mark."""
    marks: dict[str, HandlerOptions] = {}
    for base in reversed(cls.__mro__):
        for name, function in vars(base).items():
            marked = getattr(function, _MARK, None)
            if marked is not None:
                marks[name] = marked
            elif name in marks and not callable(function):
                del marks[name]
    for name, marked in marks.items():
        yield name, inspect.getattr_static(cls, name), marked


def _annotations(cls: type) -> Iterator[tuple[str, Any, type]]:
    found: dict[str, tuple[Any, type]] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in vars(base).get("__annotations__", {}).items():
            found[name] = (annotation, base)
    for name, (annotation, owner) in found.items():
        yield name, annotation, owner
