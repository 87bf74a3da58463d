"""Actor definitions: handlers by type, ports, and errors raised when the class is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from actorq.actors import (
    Actor,
    Config,
    DefinitionError,
    Feed,
    Group,
    Message,
    Ref,
    Request,
    Table,
    Topic,
    handles,
)
from actorq.actors.message import reply_type

from .messages import Add, Echo, GetTotal, Nothing, Text, Total, Weights

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class Base(Actor):
    @handles
    async def add(self, message: Add) -> None: ...

    @handles(concurrent=3)
    async def either(self, message: Text | GetTotal) -> Any: ...


def handlers(cls: type[Actor]) -> dict[str, str]:
    return {
        message.__name__: handler.method for message, handler in cls.definition.complete().handlers.items()
    }


def test_handlers_are_found_by_type_and_unions_stand_for_their_members() -> None:
    assert handlers(Base) == {"Add": "add", "Text": "either", "GetTotal": "either"}
    assert Base.definition.handlers[Text].concurrent == 3
    assert Base.definition.handlers[Add].concurrent == 0


def test_an_override_replaces_the_handler_and_needs_no_second_mark() -> None:
    class Other(Base):
        async def add(self, message: Weights) -> None:  # type: ignore[override]
            ...

    assert handlers(Other) == {"Weights": "add", "Text": "either", "GetTotal": "either"}
    assert handlers(Base)["Add"] == "add"


def test_an_override_may_be_marked_otherwise() -> None:
    class Threaded(Base):
        @handles(thread=True)
        def add(self, message: Add) -> None:  # type: ignore[override]
            ...

    assert Threaded.definition.handlers[Add].thread


def test_a_handler_can_be_taken_away() -> None:
    class Fewer(Base):
        add = None  # type: ignore[assignment]

    assert handlers(Fewer) == {"Text": "either", "GetTotal": "either"}


def test_a_subclass_may_add_handlers() -> None:
    class More(Base):
        @handles
        async def echo(self, request: Echo) -> Text:
            return Text(request.text)

    assert set(handlers(More)) == {"Add", "Text", "GetTotal", "Echo"}


def test_ports_and_tables_are_read_from_annotations() -> None:
    class Settings(Config):
        size: int = 1

    class Wired(Base):
        one: Ref[Add | Text]
        many: Group[Add]
        maybe: Ref[Text] | None
        news: Feed[Add]
        published: Topic[Weights]
        settings: Table[Settings]
        plain: int
        text: str = "Ref[Add]"

    definition = Wired.definition.complete()
    assert {name: (port.kind, port.required) for name, port in definition.ports.items()} == {
        "one": ("ref", True),
        "many": ("group", True),
        "maybe": ("ref", False),
        "news": ("feed", True),
        "published": ("topic", True),
    }
    assert definition.ports["one"].messages == (Add, Text)
    assert definition.tables == {"settings": Settings}


def two_handlers() -> None:
    class Twice(Actor):
        @handles
        async def first(self, message: Add) -> None: ...

        @handles
        async def second(self, message: Add | Text) -> None: ...


def no_message() -> None:
    class Bad(Actor):
        @handles
        async def add(self, message: int) -> None: ...


def not_annotated() -> None:
    class Bad(Actor):
        @handles
        async def add(self, message): ...  # type: ignore[no-untyped-def]


def two_parameters() -> None:
    class Bad(Actor):
        @handles
        async def add(self, message: Add, more: int) -> None: ...


def wrong_reply() -> None:
    class Bad(Actor):
        @handles
        async def total(self, request: GetTotal) -> Text:
            raise NotImplementedError


def reply_to_a_message() -> None:
    class Bad(Actor):
        @handles
        async def add(self, message: Add) -> Total:
            raise NotImplementedError


def no_reply() -> None:
    class Bad(Actor):
        @handles
        async def total(self, request: GetTotal) -> None: ...


def plain_handler() -> None:
    class Bad(Actor):
        @handles
        def add(self, message: Add) -> None: ...


def thread_that_is_async() -> None:
    class Bad(Actor):
        @handles(thread=True)
        async def add(self, message: Add) -> None: ...


def override_that_is_plain() -> None:
    class Bad(Base):
        def add(self, message: Add) -> None:  # type: ignore[override]
            ...


def concurrent_thread() -> None:
    handles(concurrent=2, thread=True)


def negative_concurrency() -> None:
    handles(concurrent=-1)


def port_of_no_message() -> None:
    class Bad(Actor):
        port: Ref[int]  # type: ignore[type-var]


def feed_not_handled() -> None:
    class Bad(Actor):
        news: Feed[Weights]


def latest_request() -> None:
    class GetNewest(Request[Total]):
        delivery: ClassVar[Literal["each", "latest"]] = "latest"

    class Bad(Actor):
        @handles
        async def get(self, request: GetNewest) -> Total:
            return Total(value=0)


def request_without_reply() -> None:
    class Ask(Request):  # type: ignore[type-arg]
        pass

    reply_type(Ask)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (two_handlers, "Add has two handlers, first and second"),
        (no_message, r"handles <class 'int'>, which is not a subclass of Message"),
        (not_annotated, "annotate 'message'"),
        (two_parameters, "takes self and one message"),
        (wrong_reply, "GetTotal asks for Total"),
        (reply_to_a_message, "Add asks for None"),
        (no_reply, "GetTotal asks for Total"),
        (plain_handler, r"a plain def needs @handles\(thread=True\)"),
        (thread_that_is_async, "takes a plain def"),
        (override_that_is_plain, "the handler it replaces is an async def"),
        (concurrent_thread, "can't be combined"),
        (negative_concurrency, "must be 1 or more"),
        (port_of_no_message, "carries <class 'int'>"),
        (feed_not_handled, "no method of .*Bad handles it"),
        (latest_request, "GetNewest is a request, and each of these is answered"),
        (request_without_reply, "does not say what it asks for"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_work_is_an_error_when_the_class_is_made(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_a_request_may_ask_for_nothing() -> None:
    assert reply_type(Nothing) is type(None)


def test_one_name_that_cannot_be_resolved_does_not_break_the_others() -> None:
    class Partly(Base):
        helper: Missing
        port: Ref[Missing]
        other: Ref[Add]

    assert set(Partly.definition.handlers) == {Add, Text, GetTotal}
    assert Partly.definition.ports["other"].messages == (Add,)
    with pytest.raises(DefinitionError, match=r"can't be resolved: port \(Ref\[Missing\]"):
        Partly.definition.complete()


class Early(Actor):
    late: Ref[Later]

    @handles
    async def later(self, message: Later) -> None: ...


assert "late" in Early.definition.unresolved


class Later(Message):
    pass


def test_names_defined_later_are_found_at_first_use() -> None:
    definition = Early.definition.complete()
    assert set(definition.handlers) == {Later}
    assert definition.ports["late"].messages == (Later,)


def test_classes_local_to_a_function_are_found() -> None:
    class Inner(Message):
        pass

    class Ask(Request[Inner]):
        pass

    class Local(Actor):
        port: Ref[Inner | Ask]

        @handles
        async def ask(self, request: Ask) -> Inner:
            raise NotImplementedError

    definition = Local.definition.complete()
    assert definition.ports["port"].messages == (Inner, Ask)
    assert set(definition.handlers) == {Ask}
