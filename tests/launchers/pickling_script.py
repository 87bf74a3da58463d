"""A user's script, run as `__main__`: pickles its own classes for a fresh interpreter, which runs CHECKS."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

import actorq
from actorq import Actor, Feed, Message, Ref, Request, Table, handles
from actorq.actors import ActorSpec
from actorq.launchers.pickling import pickle_value

T = TypeVar("T")
Positive = Annotated[int, msgspec.Meta(gt=0)]
made: list[str] = []
calls = 0


def count() -> int:
    global calls
    calls += 1
    return calls


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclasses.dataclass
class Spot:
    x: Positive
    y: float = 2.0


class Limits(actorq.Config):
    low: Positive = 1

    def doubled(self) -> Limits:
        return Limits(low=2 * self.low)


class Tree(msgspec.Struct, frozen=True):
    """Refers to itself in its fields, its defaults and its methods."""

    children: list[Tree] = []
    twin: Tree | None = None
    names: list[str] = msgspec.field(default_factory=lambda: [Tree.__name__, str(count() > 0)], name="n")

    def __post_init__(self) -> None:
        made.append("tree")

    def leaf(self) -> Tree:
        return Tree()


class Total(Message):
    value: int
    data: NDArray[np.float32] | None = None


class GetTotal(Request[Total]):
    least: Positive = 1


class Step(Message, kw_only=True, tag="s", array_like=False, forbid_unknown_fields=True, rename="camel"):
    delivery: ClassVar[Literal["each", "latest"]] = "latest"
    first_spot: Spot
    mode: Mode = Mode.FAST


class LongStep(Step, array_like=False):
    extra: int


class Box(msgspec.Struct, Generic[T]):
    item: T


class Ping(Request["Pong"]):
    """Asks for what is defined later."""


class Pong(Message):
    text: str


class Base(Actor):
    class Config(actorq.Config, kw_only=True):
        limits: Limits = Limits(low=7)
        size: int

    totals: Ref[GetTotal] | None
    steps: Feed[Step]
    limits: Table[Limits]

    @handles
    async def step(self, message: Step) -> None:
        pass

    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(value=request.least)

    @handles
    async def ping(self, request: Ping) -> Pong:
        return Pong(text="pong")


class Derived(Base):
    @handles
    async def long_step(self, message: LongStep) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {**super().state(), "self": Derived.__name__}


def local_classes() -> tuple[Any, ...]:
    factor = 3

    class Told(Message):
        weight: float = 1.5

    class Local(Actor):
        out: Ref[Told]

        @handles
        async def told(self, message: Told) -> None:
            pass

        def thrice(self, value: int) -> int:
            return factor * value

    return Told, Local


CHECKS = """
import sys, types
sys.modules["__main__"] = main = types.ModuleType("__main__")
import msgspec, numpy as np, pytest
import actorq
from actorq.actors.message import reply_type
from actorq.actors.wire.registry import Registry
from actorq.launchers.pickling import unpickle

taken = unpickle(sys.stdin.buffer.read())
spec, Base, Tree, tree, Box, LongStep, count, array, (Told, Local), again, closure = taken

# One class is one class, under the parent's name.
assert again is Base and issubclass(spec.cls, Base) and type(tree) is Tree and main.Tree is Tree
assert (Base.__module__, Base.Config.__qualname__) == ("__main__", "Base.Config")
assert spec.cls.__qualname__ == "Derived" and Told.__qualname__ == "local_classes.<locals>.Told"

# Configs: values, defaults, methods, and what they refuse.
assert repr(spec.config) == "Config(limits=Limits(low=7), size=3)"
assert spec.config.limits.doubled().low == 14 and spec.tables["limits"].low == 5
with pytest.raises(msgspec.ValidationError, match=r">= 1 - at `\\$.limits.low`"):
    msgspec.convert({"size": 1, "limits": {"low": 0}}, Base.Config)
with pytest.raises(msgspec.ValidationError, match="unknown field"):
    msgspec.convert({"size": 1, "sice": 1}, Base.Config)
with pytest.raises(TypeError, match="positional"):
    Base.Config(3)

# A Struct that leads back to itself.
assert tree.children[0].names == ["Tree", "True"] and isinstance(tree.leaf(), Tree)
assert msgspec.json.decode(b'{"children": [{"n": ["x"]}]}', type=Tree).children[0].names == ["x"]
before = len(main.made)
Tree()
assert len(main.made) == before + 1 and Tree.__doc__.startswith("Refers")
with pytest.raises(AttributeError):
    tree.twin = tree

# Messages: options, ClassVars, inherited fields, generics.
assert LongStep.delivery == "latest" and LongStep.__struct_fields__ == ("extra", "first_spot", "mode")
made = msgspec.convert({"type": "s", "firstSpot": {"x": 1}, "extra": 3}, LongStep)
assert repr(made) == "LongStep(extra=3, first_spot=Spot(x=1, y=2.0), mode=<Mode.FAST: 1>)"
with pytest.raises(msgspec.ValidationError):
    msgspec.convert({"type": "s", "firstSpot": {"x": 0}, "extra": 3}, LongStep)
assert msgspec.json.decode(b'{"item": 1}', type=Box).item == 1
with pytest.raises(msgspec.ValidationError):
    msgspec.json.decode(b'{"item": "1"}', type=Box)

# Actors: what their definition says, and that it can be used.
handlers = spec.cls.definition.handlers
assert sorted(message.__name__ for message in handlers) == ["GetTotal", "LongStep", "Ping", "Step"]
requests = [message for message in handlers if issubclass(message, actorq.Request)]
replies = {request.__name__: reply_type(request).__name__ for request in requests}
assert replies == {"GetTotal": "Total", "Ping": "Pong"}
assert [port.describe() for port in Base.definition.ports.values()] == ["Ref[GetTotal]", "Feed[Step]"]
assert Base.definition.tables == {"limits": main.Limits} and not spec.cls.definition.unresolved
Registry(*handlers)
assert spec.cls.state(object.__new__(spec.cls)) == {"self": "Derived"}
assert Local.definition.ports["out"].messages == (Told,) and Told().weight == 1.5
assert Local.thrice(object.__new__(Local), 2) == 6

# Functions share one `__main__`.
assert count() == count() - 1 == main.calls - 1 and closure() == main.calls
assert array.tolist() == [1.5, 2.5] and array.dtype == np.float32
assert "torch" not in sys.modules
"""


def main() -> int:
    spec = ActorSpec(name="one", cls=Derived, config=Derived.Config(size=3), tables={"limits": Limits(low=5)})
    closure = lambda number=0: count()  # noqa: E731
    tree = Tree(children=[Tree()])
    array = np.array([1.5, 2.5], np.float32)
    given = (spec, Base, Tree, tree, Box[int], LongStep, count, array, local_classes(), Base, closure)
    return subprocess.run([sys.executable, "-c", CHECKS], input=pickle_value(given), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
