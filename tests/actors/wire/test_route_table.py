"""The route table between two nodes: what may be sent, derived on both sides from the topology alone."""

import subprocess
import sys
import types
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import (
    Actor,
    ActorSpec,
    DefinitionError,
    Feed,
    Group,
    Message,
    Ref,
    Request,
    Topic,
    handles,
)
from actorq.actors.message import HEADER_BYTES, VARIABLE
from actorq.actors.spec import MAIN, OUTSIDE
from actorq.actors.supervision.delivery_log import LogLayout
from actorq.actors.wire.link_schema import LinkSchema
from actorq.actors.wire.route_table import Route, RouteTable, route_table
from tests.actors.messages import Add, Block, Echo, GetTotal, Nothing, Text, Total, Weights
from tests.actors.world import spec


class Learner(Actor):
    replay: Ref[GetTotal | Block]
    weights: Topic[Weights | Add]


class Replay(Actor):
    @handles
    async def get_total(self, request: GetTotal) -> Total:
        return Total(1)

    @handles(concurrent=3)
    async def block(self, message: Block) -> None:
        pass


class Explorer(Actor):
    weights: Feed[Weights]
    replay: Ref[Block] | None
    others: Group[Text]

    @handles
    async def receive(self, message: Weights | Text) -> None:
        pass


def specs() -> dict[str, ActorSpec]:
    explorers: dict[str, str | tuple[str, ...]] = {
        "weights": "learner",
        "replay": "replay",
        "others": ("explorer.0", "explorer.1"),
    }
    found = [
        spec("learner", Learner, {"replay": "replay"}),
        spec("replay", Replay, node="store"),
        spec("explorer.0", Explorer, explorers, node="far"),
        spec("explorer.1", Explorer, explorers, node="far"),
    ]
    return {each.name: each for each in found}


def routes(source: str, target: str) -> set[tuple[str, str, Any]]:
    return {
        (route.sender, route.target, route.message) for route in route_table(specs(), source, target).routes
    }


def test_every_connection_is_a_way() -> None:
    assert routes("main", "store") == {
        ("learner", "replay", GetTotal),
        ("learner", "replay", Block),
        (OUTSIDE, "replay", GetTotal),
        (OUTSIDE, "replay", Block),
    }
    assert routes("far", "store") == {("explorer.0", "replay", Block), ("explorer.1", "replay", Block)}
    texts = {(a, b, Text) for a in ("explorer.0", "explorer.1") for b in ("explorer.0", "explorer.1")}
    assert routes("far", "far") == texts
    assert routes("store", "far") == routes("store", "main") == routes("far", "main") == set()


def test_a_topic_sends_what_its_subscribers_take() -> None:
    learned = {route for route in routes("main", "far") if route[0] == "learner"}
    assert learned == {("learner", "explorer.0", Weights), ("learner", "explorer.1", Weights)}


def test_the_application_outside_sends_from_main_only() -> None:
    outside = {route for route in routes(MAIN, "far") if route[0] == OUTSIDE}
    assert outside == {(OUTSIDE, f"explorer.{i}", kind) for i in (0, 1) for kind in (Weights, Text)}
    assert not any(route[0] == OUTSIDE for source in ("store", "far") for route in routes(source, "far"))


def test_what_is_known_of_each_way() -> None:
    kinds: list[type[Message]] = [Add, Weights, Block, GetTotal, Nothing]
    made = RouteTable(Route("a", "b", kind) for kind in kinds)
    assert made.numbers == {("a", "b", kind): number for number, kind in enumerate(kinds)}
    assert made.latest == (False, True, False, False, False)
    assert made.sizes == (HEADER_BYTES + 8, HEADER_BYTES + 8, VARIABLE, HEADER_BYTES, HEADER_BYTES)
    assert made.replies == ((), (), (), (Total,), (type(None),))


def test_both_sides_number_alike() -> None:
    here = LinkSchema(specs(), "main", "far", incarnation=0)
    there = LinkSchema(specs(), "far", "main", incarnation=0)
    assert here.out.routes == there.into.routes
    assert here.into.routes == there.out.routes
    assert here.digest == there.digest
    assert here.digest != LinkSchema(specs(), "main", "store", incarnation=0).digest


def test_a_link_schema_knows_where_the_delivery_log_of_either_side_is() -> None:
    here = LinkSchema(specs(), "main", "far", incarnation=0)
    assert here.source == LogLayout(specs(), "main").sources["far"] == 2
    assert here.layout.nbytes == LogLayout(specs(), "far").nbytes


def test_an_incarnation_tells_how_often_it_was_started() -> None:
    assert LinkSchema(specs(), "main", "far", incarnation=(77 << 12) | 5).ordinal == 5


DIGEST = f"""
from {__name__} import route_table, specs
print(route_table(specs(), "main", "far").digest.hex())
"""


def test_another_process_comes_to_the_same_digest() -> None:
    """Though its hashes of text are others, and its objects lie elsewhere."""
    digest = route_table(specs(), "main", "far").digest.hex()
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.strip() == digest


def made(name: str, fields: list[Any], base: type = Message, **rest: Any) -> Any:
    return msgspec.defstruct(name, fields, bases=(base,), module="somewhere", frozen=True, **rest)


def digest(*routes: Route) -> bytes:
    return RouteTable(routes).digest


INNER = made("Inner", [("number", int)], msgspec.Struct)

DIFFERENT = {
    "another sender": [Route("c", "b", made("M", [("number", int)]))],
    "another target": [Route("a", "c", made("M", [("number", int)]))],
    "another name": [Route("a", "b", made("N", [("number", int)]))],
    "one more": [Route("a", "b", made("M", [("number", int)])), Route("a", "b", Add)],
    "another field": [Route("a", "b", made("M", [("numbers", int)]))],
    "another type": [Route("a", "b", made("M", [("number", float)]))],
    "one more field": [Route("a", "b", made("M", [("number", int), ("more", int)]))],
    "a struct in it": [Route("a", "b", made("M", [("number", INNER)]))],
    "a bound": [Route("a", "b", made("M", [("number", Annotated[int, msgspec.Meta(ge=0)])]))],
    "another delivery": [Route("a", "b", made("M", [("number", int)], namespace={"delivery": "latest"}))],
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_whatever_differs_shows_in_the_digest(other: list[Route]) -> None:
    message = made("M", [("number", int)])
    assert digest(Route("a", "b", message)) == digest(Route("a", "b", made("M", [("number", int)])))
    assert digest(Route("a", "b", message)) != digest(*other)


def test_the_order_of_the_ways_shows_in_the_digest() -> None:
    one, two = Route("a", "b", Add), Route("a", "b", Text)
    assert digest(one, two) != digest(two, one)


def test_the_fields_of_structs_inside_show_in_the_digest() -> None:
    def outer(*fields: Any) -> Any:
        inner = made("Inner", list(fields), msgspec.Struct)
        return made("M", [("middle", made("Middle", [("inner", inner)], msgspec.Struct))])

    number = ("number", int)
    assert digest(Route("a", "b", outer(number))) == digest(Route("a", "b", outer(number)))
    assert digest(Route("a", "b", outer(number))) != digest(Route("a", "b", outer(("number", float))))
    assert digest(Route("a", "b", outer(number))) != digest(Route("a", "b", outer(number, ("more", int))))


def test_the_fields_of_replies_show_in_the_digest() -> None:
    def asked(kind: type) -> Any:
        return request(made("R", [("value", kind)]))

    assert digest(Route("a", "b", asked(int))) == digest(Route("a", "b", asked(int)))
    assert digest(Route("a", "b", asked(int))) != digest(Route("a", "b", asked(float)))


def request(asked: Any) -> Any:
    reply: Any = asked
    return types.new_class("Get", (Request[reply],), {}, lambda body: body.update(__module__="somewhere"))


def asking(first: str, second: str, fewer: bool = False) -> RouteTable:
    one, other = (made(name, [("value", int)]) for name in (first, second))
    return RouteTable([Route("a", "b", request(one if fewer else one | other))])


def test_replies_are_numbered_by_their_names() -> None:
    """Not as they were written: to Python `A | B` is `B | A`, and it keeps the one that it saw first."""
    one, other = asking("One", "Other"), asking("Other", "One")
    for each in (one, other):
        assert [reply.__name__ for reply in each.replies[0]] == ["One", "Other"]
    assert one.digest == other.digest


def test_which_replies_there_are_shows_in_the_digest() -> None:
    assert asking("One", "Other").digest != asking("One", "Other", fewer=True).digest


def test_the_dtypes_of_arrays_show_in_the_digest() -> None:
    def array(scalar: Any) -> Any:
        return made("M", [("data", dict[str, NDArray[scalar]])])

    assert digest(Route("a", "b", array(np.float32))) == digest(Route("a", "b", array(np.float32)))
    assert digest(Route("a", "b", array(np.float32))) != digest(Route("a", "b", array(np.float64)))


def test_notes_in_annotations_are_not_in_the_digest() -> None:
    """Their repr may be an address, which every process has another of."""

    def noted() -> Any:
        return made("M", [("number", Annotated[int, object()])])

    assert digest(Route("a", "b", noted())) == digest(Route("a", "b", noted()))


class Hooked(Message):
    hook: Callable[[], None]


class GetHooked(Request[Hooked]):
    pass


@pytest.mark.parametrize("message", [Hooked, GetHooked])
def test_types_that_cannot_be_serialized_are_refused(message: type[Message]) -> None:
    with pytest.raises(
        DefinitionError, match=r"Hooked.hook is collections.abc.Callable, which can't be serialized"
    ):
        RouteTable([Route("a", "b", Echo), Route("a", "b", message)])
