"""Registry: the types that can be registered, and their names."""

import datetime
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors.errors import DefinitionError
from actorq.actors.message import Message, Request
from actorq.actors.wire.registry import Registry

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: float
    y: float


@dataclass
class Record:
    data: NDArray[np.float32]


class Leaf(msgspec.Struct, frozen=True):
    data: NDArray[np.float32]


class Tree(msgspec.Struct, frozen=True):
    leaf: Leaf
    branches: list["Tree"]


class Total(Message):
    value: float


class Empty(Message):
    pass


class GetTotal(Request[Total | Empty | None]):
    pass


class Anything(Message):
    tree: Tree
    when: datetime.datetime
    colour: Colour
    point: Point
    record: Record | None
    names: set[str]
    table: dict[str, tuple[int, ...]]
    state: dict[str, Any]


def test_serializable_types() -> None:
    assert Registry(Anything).name_of(Anything) == f"{__name__}:Anything"


def test_a_request_brings_its_replies() -> None:
    registry = Registry(GetTotal)
    for kind in (GetTotal, Total, Empty):
        assert registry.name_of(kind) == f"{__name__}:{kind.__name__}"
    assert registry.name_of(type(None)) == ""


def test_registering_again_changes_nothing() -> None:
    registry = Registry(Total, GetTotal, Total)
    registry.register(Total)
    assert registry.name_of(Total) == f"{__name__}:Total"


class Hooked(Message):
    hook: Callable[[], None]


class Complex(Message):
    value: complex


class Scalar(Message):
    value: np.float32


class View(Message):
    data: memoryview


class Packed(Message):
    data: msgspec.Raw


class Extended(Message):
    data: msgspec.msgpack.Ext


class Deep(msgspec.Struct, frozen=True):
    key: dict[str, list[tuple[object, ...]]]


class Holder(Message):
    deep: Deep | None
    pair: tuple[int, slice]


class Mixed(Message):
    value: NDArray[np.float32] | int


class Unknown(Message):
    value: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class GetNumber(Request[int]):
    pass


class GetLeaf(Request[Leaf]):
    pass


class GetSomething(Request):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (Hooked, "Hooked.hook is collections.abc.Callable, which can't be serialized"),
        (Complex, "Complex.value is builtins.complex, which can't be serialized"),
        (Scalar, "Scalar.value is numpy.float32, which can't be serialized"),
        (View, "View.data is memoryview, which can't be serialized"),
        (Packed, "Packed.data is raw, which can't be serialized"),
        (Extended, "Extended.data is ext, which can't be serialized"),
        (Holder, "Deep.key is builtins.object, which can't be serialized; Holder.pair is builtins.slice"),
        (Mixed, "Mixed can't be serialized: Type unions"),
        (Unknown, "Unknown can't be serialized: name 'Nowhere' is not defined"),
        (GetNumber, "GetNumber asks for <class 'int'>: a reply is a Message or None"),
        (GetLeaf, r"GetLeaf asks for <class '.*Leaf'>: a reply is a Message or None"),
        (GetSomething, "GetSomething does not say what it asks for"),
    ],
)
def test_what_cannot_be_serialized_is_refused(message: type[Message], sentence: str) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        Registry(message)


def test_two_types_of_one_name() -> None:
    def local() -> type[Message]:
        class Local(Message):
            pass

        return Local

    with pytest.raises(DefinitionError, match=r"two message types .*Local: give one of them another name"):
        Registry(local(), local())


class Said:
    """Something in an annotation whose repr is its address."""


class Box(msgspec.Struct, Generic[T]):
    content: T


class Shown(Message):
    number: Annotated[int, Said()]
    positive: Annotated[int, msgspec.Meta(gt=0, description="more than nothing", extra={"said": Said()})]
    data: Annotated[NDArray[np.float32], Said()] | None
    boxes: tuple[Box[Annotated[int, Said()]], Box[NDArray[np.int8]]]
    side: Literal["port", "starboard"]
    colour: Colour = Colour.RED


def test_layouts_tell_what_matters_on_the_wire_and_nothing_else() -> None:
    lines = Registry(Shown).layouts()
    here = f"{__name__}:"
    box = f"{here}Box[numpy:ndarray[builtins:tuple[typing:Any, Ellipsis], numpy:dtype[numpy:int8]]]"
    dtype = "numpy:dtype[numpy:float32]"
    assert lines == [
        f"{here}Box[builtins:int] object tag=None:None strict=False content:Int() []",
        f"{box} object tag=None:None strict=False content:Custom(numpy:ndarray) [numpy:dtype[numpy:int8]]",
        f"{here}Shown array tag=None:None strict=False number:Int() positive:Int(gt=0) "
        f"data:Custom(numpy:ndarray)|None() boxes:Tuple({here}Box[builtins:int], {box}) "
        f"""side:Literal["'port'", "'starboard'"] colour?:{here}Colour["'red'"] """
        f"[data:{dtype} boxes:numpy:dtype[numpy:int8]]",
    ]
