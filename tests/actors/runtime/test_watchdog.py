"""Watchdog: a handler that blocks the loop is logged, once for each actor and place."""

import logging
import sys
import threading
from types import FrameType

import pytest
from anyio.lowlevel import checkpoint

from actorq.actors import Actor, System, handles
from actorq.actors.runtime.watchdog import Watchdog, outermost_actor
from actorq.testing import Record
from tests.actors.messages import Echo, GetTotal, Text, Total
from tests.actors.world import World, spec

pytestmark = pytest.mark.anyio


class Warned(logging.Handler):
    """Lets a blocked handler go on once the warning of it is there. A busy machine may be told of others."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []
        self.seen = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "echo" in record.getMessage() or "total" in record.getMessage():
            self.records.append(record.getMessage())
            self.seen.set()


@pytest.fixture
def warned() -> Warned:
    return Warned()


async def test_a_handler_that_holds_the_loop_is_named_with_its_place(
    world: World, warned: Warned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actorq.actors.runtime.watchdog.LIMIT_SECONDS", 0.01)

    class Blocking(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            self.compute()
            return Text(request.text)

        def compute(self) -> None:
            warned.seen.wait()

    log = logging.getLogger("actorq.actors")
    log.addHandler(warned)
    try:
        async with world.system(spec("blocking", Blocking)) as system:
            await system.ref("blocking").ask(Echo(""))
            await system.ref("blocking").ask(Echo(""))
    finally:
        log.removeHandler(warned)
    (text,) = warned.records
    assert text.startswith("blocking has held the event loop for more than 0.01 s, in ")
    assert "Blocking.echo (" in text
    assert f"({__file__}:" in text


async def test_the_place_is_the_outermost_method_of_an_actor() -> None:
    frames = Record[FrameType]()

    class Helper:
        def look(self) -> None:
            frames.add(sys._getframe())

    class Looking(Actor):
        @handles
        async def total(self, request: GetTotal) -> Total:
            self.inner()
            assert outermost_actor(frames.entries[0]) == (self, sys._getframe())
            assert outermost_actor(None) is None
            return Total(0)

        def inner(self) -> None:
            Helper().look()

    async with System([spec("it", Looking)]) as system:
        await system.ref("it").ask(GetTotal())


async def test_each_actor_and_place_is_named_once(warned: Warned) -> None:
    dog = Watchdog(1.0)

    class Looked(Actor):
        @handles
        async def echo(self, request: Echo) -> Text:
            dog._warn(sys._getframe())
            return Text("")

        @handles
        async def total(self, request: GetTotal) -> Total:
            dog._warn(sys._getframe())
            return Total(0)

    log = logging.getLogger("actorq.actors")
    log.addHandler(warned)
    try:
        # In turns, so that it has no watchdog of its own.
        async with System([spec("a", Looked), spec("b", Looked)], deterministic=True) as system:
            for name in "aabb":
                await system.ref(name).ask(Echo(""))
                await system.ref(name).ask(GetTotal())
            dog._warn(sys._getframe())  # no actor's frame
    finally:
        log.removeHandler(warned)
    assert sorted(text.partition(",")[0].split()[0] for text in warned.records) == ["a", "a", "b", "b"]


async def test_a_deterministic_run_has_no_watchdog_and_others_end_theirs(world: World) -> None:
    def dogs() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "actorq watchdog"]

    async with System([spec("a", Actor)], deterministic=True):
        assert not dogs()
    async with world.system(spec("a", Actor)):
        while not dogs():
            await checkpoint()
    assert not dogs(), "its thread is gone when the run is"
