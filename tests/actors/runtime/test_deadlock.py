"""Deadlock detection: circular waits are refused with their actors' names; waits that can end are not."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors import (
    Actor,
    ActorDied,
    ActorSpec,
    CircularWait,
    Group,
    MailboxBounds,
    Ref,
    Refused,
    System,
    handles,
)
from actorq.testing import Record
from tests.actors.messages import Add, Echo, GetTotal, Text, Total, Visit
from tests.actors.world import AT_ONCE, World, fresh, spec

pytestmark = pytest.mark.anyio


class Walker(Actor):
    """Asks the next actor of the path; names the circle in the reply's place if there is one."""

    others: Group[Visit]
    found: ClassVar[Record[str]]

    @handles
    async def visit(self, request: Visit) -> Total:
        if not request.path:
            return Total(0)
        to = next(ref for ref in self.others if ref.name == request.path[0])
        try:
            return Total(1 + (await to.ask(Visit(request.path[1:]))).value)
        except CircularWait as error:
            self.found.add(str(error))
            return Total(-100)


def walkers(names: Sequence[str], cls: type[Walker] = Walker) -> tuple[list[ActorSpec], Record[str]]:
    found = Record[str]()
    walker = fresh(cls, found=found)
    return [spec(name, walker, {"others": tuple(names)}) for name in names], found


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("aa", "a -> a"),
        ("aba", "a -> b -> a"),
        ("abca", "a -> b -> c -> a"),
        ("abcdb", "b -> c -> d -> b"),
    ],
)
async def test_a_request_chain_that_waits_for_itself(world: World, path: str, named: str) -> None:
    specs, found = walkers("abcd")
    async with world.system(*specs) as system:
        reply = await system.ref(path[0]).ask(Visit(list(path[1:])))
        assert reply.value < 0
        (text,) = found.entries
        assert text.endswith(named)
        assert "these actors wait for each other in a circle" in text
        assert (await system.ref("a").ask(Visit(["b", "c", "d"]))).value == 3
    assert system.statistics().dead_letters == 0


class Synchronization(Walker):
    """Waits for all the others before asking on."""

    arrived: ClassVar[Record[str]]
    together: ClassVar[int]

    @handles
    async def begin(self, request: Echo) -> Text:
        self.arrived.add(self.name)
        await self.arrived.reaches(self.together)
        try:
            await next(ref for ref in self.others if ref.name == request.text).ask(Visit([]))
        except CircularWait as error:
            self.found.add(str(error))
        return Text("")


@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
async def test_asks_that_cross(world: World, names: str) -> None:
    specs, found = walkers(names, fresh(Synchronization, arrived=Record(), together=len(names)))
    async with world.system(*specs) as system, anyio.create_task_group() as tasks:
        for name, following in zip(names, names[1:] + names[0], strict=True):
            tasks.start_soon(system.ref(name).ask, Echo(following))
        await found.reaches(1)
    # The one that closed it; the others got their replies. Between processes several may close it at once.
    assert 1 <= len(found.entries) <= (len(names) if world.crosses_processes else 1)
    circle = found.entries[0].rpartition(": ")[2].split(" -> ")
    assert circle[0] == circle[-1]
    assert set(circle) == set(names)
    assert all((b, a) in zip(names[1:] + names[0], names, strict=True) for a, b in pairwise(circle))


class Pushing(Actor):
    """Tells its peer more than it takes, from a handler."""

    other: Ref[Add]
    found: ClassVar[Record[str]]

    @handles
    async def push(self, message: Text) -> None:
        try:
            for amount in range(10):
                await self.other.tell(Add(amount))
        except CircularWait as error:
            self.found.add(str(error))

    @handles
    async def add(self, message: Add) -> None: ...


async def test_a_circle_of_full_mailboxes(world: World) -> None:
    cls = fresh(Pushing, found=Record())
    bounds = MailboxBounds(messages=2)
    async with world.system(
        spec("a", cls, {"other": "b"}, mailbox=bounds), spec("b", cls, {"other": "a"}, mailbox=bounds)
    ) as system:
        await system.ref("a").tell(Text("push"))
        await system.ref("b").tell(Text("push"))
        text, *_ = await cls.found.reaches(1)  # between processes both may close it
        assert text.startswith("full mailboxes: these actors wait for each other in a circle: ")
        assert text.endswith(("a -> b -> a", "b -> a -> b"))
    assert system.statistics().dead_letters == 0


async def test_a_full_mailbox_that_drains_is_no_circle(world: World) -> None:
    cls = fresh(Pushing, found=Record())

    class Sink(Actor):
        @handles
        async def add(self, message: Add) -> None: ...

    async with world.system(
        spec("sink", Sink, mailbox=MailboxBounds(messages=1)), spec("a", cls, {"other": "sink"})
    ) as system:
        await system.ref("a").tell(Text("push"))
        await system.quiesce()
        assert system.statistics().actors[0].mailbox.handled == 10
    assert not cls.found.entries


class Early(Actor):
    """Asks in on_start."""

    other: Ref[Visit | Echo]
    request: ClassVar[Visit | Echo]
    found: ClassVar[Record[str]]

    async def on_start(self) -> None:
        try:
            await self.other.ask(self.request)
            self.found.add("answered")
        except (CircularWait, Refused) as error:
            self.found.add(str(error))

    @handles
    async def visit(self, request: Visit) -> Total:
        return Total(0)

    @handles(concurrent=2)
    async def echo(self, request: Echo) -> Text:
        return Text(request.text)


def early(request: Visit | Echo) -> type[Early]:
    return fresh(Early, found=Record(), request=request)


class Answering(Actor):
    @handles
    async def visit(self, request: Visit) -> Total:
        return Total(0)

    @handles(concurrent=2)
    async def echo(self, request: Echo) -> Text:
        return Text("")


class Middle(Actor):
    """Passes on what it is asked."""

    last: Ref[Visit | Echo]

    @handles
    async def visit(self, request: Visit) -> Total:
        try:
            return await self.last.ask(request)
        except CircularWait as error:
            raise Refused(str(error)) from None

    @handles(concurrent=2)
    async def echo(self, request: Echo) -> Text:
        try:
            return await self.last.ask(request)
        except CircularWait as error:
            raise Refused(str(error)) from None


@pytest.mark.parametrize("request_", [Visit([]), Echo("")], ids=["serial", "concurrent"])
async def test_asking_a_later_actor_in_on_start(world: World, request_: Visit | Echo) -> None:
    cls = early(request_)
    async with world.system(spec("a", cls, {"other": "b"}), spec("b", Answering)):
        (text,) = cls.found.entries
        assert "a waits for b" in text
        assert "starts later: put it before a in the file" in text


@pytest.mark.parametrize("request_", [Visit([]), Echo("")], ids=["serial", "concurrent"])
async def test_asking_a_later_actor_through_an_earlier_one(world: World, request_: Visit | Echo) -> None:
    cls = early(request_)
    async with world.system(
        spec("middle", Middle, {"last": "last"}),
        spec("a", cls, {"other": "middle"}),
        spec("last", Answering),
    ):
        (text,) = cls.found.entries
        assert "a waits for last" in text
        assert "a.on_start -> middle" in text


@pytest.mark.parametrize("request_", [Visit([]), Echo("")], ids=["serial", "concurrent"])
async def test_asking_itself_in_on_start(world: World, request_: Visit | Echo) -> None:
    cls = early(request_)
    async with world.system(spec("a", cls, {"other": "a"})):
        (text,) = cls.found.entries
        assert "in a circle: a.on_start -> a" in text


async def test_asking_an_earlier_actor_in_on_start_is_right(world: World) -> None:
    cls = early(Visit([]))
    async with world.system(spec("a", Answering), spec("b", cls, {"other": "a"})):
        assert cls.found.entries == ["answered"]


class Deep(Actor):
    """Asks itself so many times, concurrently."""

    me: Ref[Visit]

    @handles(concurrent=3)
    async def visit(self, request: Visit) -> Total:
        if not request.path:
            return Total(0)
        return Total(1 + (await self.me.ask(Visit(request.path[1:]))).value)


async def test_a_concurrent_handler_may_ask_itself_within_its_limit(world: World) -> None:
    async with world.system(spec("deep", Deep, {"me": "deep"})) as system:
        assert await system.ref("deep").ask(Visit(["", ""])) == Total(2)
        with pytest.raises(
            ActorDied, match=r"in a circle: deep.Visit -> deep.Visit -> deep.Visit -> deep.Visit"
        ):
            await system.ref("deep").ask(Visit(["", "", ""]))


async def test_a_cancelled_wait_closes_no_circle(world: World) -> None:
    asked, gave_up, replied = anyio.Event(), anyio.Event(), Record[Any]()

    class Impatient(Actor):
        other: Ref[Visit]

        @handles
        async def begin(self, request: Echo) -> Text:
            with anyio.CancelScope() as scope:
                self.scope = scope
                await self.other.ask(Visit([]))
            gave_up.set()
            return Text("gave up")

        @handles
        async def total(self, request: GetTotal) -> Total:
            return Total(5)

    class Asking(Actor):
        impatient: Ref[GetTotal]

        @handles
        async def visit(self, request: Visit) -> Total:
            asked.set()
            await gave_up.wait()
            replied.add(await self.impatient.ask(GetTotal()))
            return Total(0)

    async with (
        world.system(spec("a", Impatient, {"other": "b"}), spec("b", Asking, {"impatient": "a"})) as system,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(system.ref("a").ask, Echo(""))
        await asked.wait()
        system.cells["a"].actor.scope.cancel()  # type: ignore[union-attr]
        assert await replied.reaches(1) == [Total(5)]


async def test_asking_all_of_a_group_waits_for_each_of_them(world: World) -> None:
    """A's second wait closes the circle only after its first has ended."""
    gate, found = anyio.Event(), Record[str]()

    class Boss(Actor):
        workers: Group[GetTotal]

        @handles
        async def begin(self, message: Text) -> None:
            await self.workers.all().ask(GetTotal())
            found.add("answered")

        @handles
        async def visit(self, request: Visit) -> Total:
            return Total(1)

    class Worker(Actor):
        boss: Ref[Visit]

        @handles
        async def busy(self, message: Text) -> None:
            await gate.wait()
            try:
                await self.boss.ask(Visit([]))
            except CircularWait as error:
                found.add(str(error))

        @handles
        async def total(self, request: GetTotal) -> Total:
            if self.name == "one":
                await gate.wait()
            return Total(0)

    async with world.system(
        spec("boss", Boss, {"workers": ("one", "two")}),
        spec("one", Worker, {"boss": "boss"}),
        spec("two", Worker, {"boss": "boss"}),
    ) as system:
        await system.ref("two").tell(Text("busy"))
        await world.still(system)
        await system.ref("boss").tell(Text("begin"))
        await world.still(system)
        gate.set()
        first, second = await found.reaches(2)
        assert "in a circle: " in first
        assert second == "answered"


# Random graphs, against the obvious: a request returns to an actor that still waits, or it does not.

PATHS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8)


def closes(path: Sequence[str]) -> bool:
    return len(set(path)) < len(path)


@pytest.mark.parametrize("deterministic", [False, True])
@settings(max_examples=40)
@given(path=PATHS)
def test_random_chains_raise_just_when_they_return(deterministic: bool, path: list[str]) -> None:
    async def walk() -> None:
        specs, found = walkers("abcde")
        async with System(specs, AT_ONCE, deterministic=deterministic) as system:
            reply = await system.ref(path[0]).ask(Visit(path[1:]))
        assert (reply.value < 0) == bool(found.entries) == closes(path)

    anyio.run(walk)


class Node(Actor):
    """Asks all the actors it knows, at once and in their order, when it is asked."""

    others: Group[GetTotal] | None
    found: ClassVar[Record[str]]

    @handles
    async def total(self, request: GetTotal) -> Total:
        if self.others is None:
            return Total(1)
        try:
            return Total(1 + sum(reply.value for reply in await self.others.all().ask(GetTotal())))
        except CircularWait as error:
            self.found.add(str(error))
            return Total(0)


EDGES = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)


def count(edges: set[tuple[int, int]], node: int) -> int:
    return 1 + sum(count(edges, b) for a, b in edges if a == node)


def reaches_a_circle(edges: set[tuple[int, int]], node: int, waiting: tuple[int, ...] = ()) -> bool:
    return node in waiting or any(reaches_a_circle(edges, b, (*waiting, node)) for a, b in edges if a == node)


@pytest.mark.parametrize("deterministic", [False, True])
@settings(max_examples=60)
@given(edges=EDGES)
def test_random_graphs_raise_just_when_they_have_a_circle(
    deterministic: bool, edges: set[tuple[int, int]]
) -> None:
    async def ask() -> None:
        cls = fresh(Node, found=Record())
        specs = [
            spec(str(a), cls, {"others": tuple(str(y) for x, y in sorted(edges) if x == a)}) for a in range(5)
        ]
        async with System(specs, AT_ONCE, deterministic=deterministic) as system:
            reply = await system.ref("0").ask(GetTotal())
        circle = reaches_a_circle(edges, 0)
        assert bool(cls.found.entries) == circle
        if not circle:
            assert reply.value == count(edges, 0)

    anyio.run(ask)
