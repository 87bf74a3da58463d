"""Death watch: one `on_down` for each end of a watched actor's incarnation, in order with its messages."""

from typing import Any, ClassVar

import anyio
import pytest

from actorq.actors import Actor, ActorFailed, Group, GroupSpec, Ref, RestartLimits, System, handles
from actorq.testing import Record
from tests.actors.messages import Add, GetTotal, Nothing, Text, Total
from tests.actors.world import AT_ONCE, World, fresh, spec


class Watched(Actor):
    """Passes on what it is told, and crashes over the amount 0; its own loop ends it over a negative one."""

    watcher: Ref[Text] | None

    async def on_start(self) -> None:
        self.ends = self.event()

    async def run(self) -> None:
        await self.ends.wait()

    @handles
    async def add(self, message: Add) -> None:
        for number in range(message.amount):
            if self.watcher is not None:
                await self.watcher.tell(Text(f"{self.name} {self.restarts} {number}"))
        if message.amount == 0:
            raise ValueError("told to crash")
        if message.amount < 0:
            self.ends.set()

    @handles
    async def total(self, request: GetTotal) -> Total:
        return Total(self.restarts)


class Watcher(Actor):
    """Records what it handles; crashes over "crash", and in `on_down` as often as it is told to."""

    record: ClassVar[Record[str]]
    crashes: ClassVar[int] = 0
    others: Group[GetTotal] | None

    async def on_start(self) -> None:
        for name in self.senders(Text):
            self.watch(name)
        for other in self.others or ():
            self.watch(other)
            self.watch(other)

    async def on_down(self, name: str, incarnation: int) -> None:
        self.record.add(f"{name} {incarnation} down")
        if self.restarts < self.crashes:
            raise ValueError("told to crash")

    @handles
    async def text(self, message: Text) -> None:
        self.record.add(message.text)
        if message.text == "crash":
            raise ValueError("told to crash")

    @handles
    async def nothing(self, request: Nothing) -> None:
        pass


def watcher(**values: Any) -> type[Watcher]:
    return fresh(Watcher, record=Record(), **values)


@pytest.mark.anyio
async def test_on_down_comes_after_the_messages_of_the_incarnation_and_before_those_of_the_next(
    world: World,
) -> None:
    cls = watcher()
    async with world.system(spec("w", cls), spec("a", Watched, {"watcher": "w"})) as system:
        a = system.ref("a")
        for amount in (40, 0, 2, 0, 1):
            await a.tell(Add(amount))
        await cls.record.has("a 2 0")
    assert cls.record.entries == [
        *(f"a 0 {number}" for number in range(40)),
        "a 0 down",
        *("a 1 0", "a 1 1", "a 1 down"),
        "a 2 0",
    ]
    assert system.statistics().undelivered == 0


@pytest.mark.anyio
async def test_an_actor_is_watched_by_those_it_has_ports_to_and_by_those_with_a_port_to_it(
    world: World,
) -> None:
    one, two = watcher(), watcher()
    specs = [
        spec("w", one),
        spec("a", Watched, {"watcher": "w"}),
        spec("b", Watched),
        spec("v", two, {"others": ("a", "b")}),
    ]
    async with world.system(*specs) as system:
        for name in ("a", "b", "a"):
            await system.ref(name).tell(Add(0))
            await two.record.reaches(len(two.record.entries) + 1)
        await one.record.reaches(2)
        await world.still(system)
    assert one.record.entries == ["a 0 down", "a 1 down"]
    assert two.record.entries == ["a 0 down", "b 0 down", "a 1 down"]


@pytest.mark.anyio
async def test_the_ends_of_a_stopping_run_are_not_reported(world: World) -> None:
    cls = watcher()
    specs = [spec("a", Watched), spec("w", cls, {"others": ("a", "b")}), spec("b", Watched, {"watcher": "w"})]
    async with world.system(*specs) as system:
        await system.ref("b").tell(Add(1))
    assert cls.record.entries == ["b 0 0"]
    assert system.statistics().undelivered == 0


@pytest.mark.anyio
async def test_a_failed_start_a_retirement_and_an_ended_loop_are_reported(world: World) -> None:
    class Failing(Watched):
        async def on_start(self) -> None:
            await super().on_start()
            if self.restarts == 0:
                raise ValueError("told to crash")

    cls = watcher()
    specs = [
        spec("w", cls, {"others": ("failing", "never", "always")}),
        spec("failing", Failing),
        spec("never", Watched, restart="never"),
        spec("always", Watched, restart="always"),
    ]
    async with world.system(*specs) as system:
        await cls.record.reaches(1)
        assert await system.ref("failing").ask(GetTotal()) == Total(1)
        await system.ref("never").tell(Add(0))
        await cls.record.reaches(2)
        await system.ref("always").tell(Add(-1))
        await cls.record.reaches(3)
    assert cls.record.entries == ["failing 0 down", "never 0 down", "always 0 down"]


@pytest.mark.anyio
async def test_a_restart_with_the_group_is_reported(world: World) -> None:
    group = GroupSpec(
        name="team", strategy="one-for-all", limits=RestartLimits(max_restarts=3, backoff_seconds=0.0)
    )
    cls = watcher()
    specs = [
        spec("w", cls),
        spec("a", Watched, {"watcher": "w"}, group="team"),
        spec("b", Watched, {"watcher": "w"}, group="team"),
    ]
    async with world.system(*specs, groups=[group]) as system:
        await system.ref("b").tell(Add(0))
        assert sorted(await cls.record.reaches(2)) == ["a 0 down", "b 0 down"]
        assert await system.ref("a").ask(GetTotal()) == Total(1)
    assert len(cls.record.entries) == 2


@pytest.mark.anyio
async def test_a_restarted_watcher_watches_again_and_learns_which_actors_are_down(world: World) -> None:
    cls = watcher()
    specs = [
        spec("w", cls, {"others": ("never", "quiet")}),
        spec("a", Watched, {"watcher": "w"}),
        spec("never", Watched, restart="never"),
        spec("quiet", Watched),
    ]
    async with world.system(*specs) as system:
        await system.ref("never").tell(Add(0))
        await cls.record.has("never 0 down")
        await system.ref("quiet").tell(Add(0))
        await cls.record.has("quiet 0 down")
        assert await system.ref("quiet").ask(GetTotal()) == Total(1)
        await world.still(system)
        await system.ref("w").tell(Text("crash"))
        await system.ref("w").ask(Nothing())
        await system.ref("a").tell(Add(0))
        await cls.record.has("a 0 down")
    before = ["never 0 down", "quiet 0 down", "crash"]
    assert cls.record.entries == [*before, "never 0 down", "a 0 down"], "quiet has started again"


@pytest.mark.anyio
async def test_ends_while_the_watcher_is_down_are_reported_to_its_next_incarnation(world: World) -> None:
    open_again = anyio.Event()

    class Late(Watcher):
        record = Record()

        async def on_start(self) -> None:
            await super().on_start()
            self.record.add("starting")
            if self.restarts:
                await open_again.wait()

    async with world.system(spec("w", Late), spec("a", Watched, {"watcher": "w"})) as system:
        await system.ref("w").tell(Text("crash"))
        await Late.record.reaches(3)
        await system.ref("a").tell(Add(1))
        await system.ref("a").tell(Add(0))
        await system.ref("a").ask(GetTotal())
        await world.still(system)
        open_again.set()
        await Late.record.has("a 0 down")
    assert Late.record.entries == ["starting", "crash", "starting", "a 0 0", "a 0 down"]


@pytest.mark.anyio
async def test_an_error_in_on_down_is_a_crash_and_the_next_incarnation_is_notified_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    cls = watcher(crashes=1)
    async with world.system(spec("w", cls), spec("a", Watched, {"watcher": "w"})) as system:
        await system.ref("a").tell(Add(0))
        await cls.record.reaches(2)
        await system.ref("w").ask(Nothing())
        assert [actor.crashes for actor in system.statistics().actors] == [1, 1]
    assert cls.record.entries == ["a 0 down", "a 0 down"]
    assert "w crashed in on_down over WatchNotice: ValueError: told to crash" in caplog.text
    assert system.statistics().in_doubt == 1  # the message that crashed the watched actor


@pytest.mark.anyio
async def test_on_down_runs_between_two_handlers(world: World) -> None:
    class Serial(Watcher):
        record = Record()

        async def on_down(self, name: str, incarnation: int) -> None:
            self.record.add("down begins")
            (await self.others[0].ask(GetTotal())) if self.others is not None else None
            self.record.add("down ends")

        @handles
        async def text(self, message: Text) -> None:
            self.record.add(message.text)

    specs = [spec("b", Watched), spec("w", Serial, {"others": "b"}), spec("a", Watched, {"watcher": "w"})]
    async with world.system(*specs) as system:
        await system.ref("a").tell(Add(0))
        await system.ref("a").tell(Add(1))
        await Serial.record.reaches(3)
    assert Serial.record.entries == ["down begins", "down ends", "a 1 0"]


@pytest.mark.anyio
async def test_what_cant_be_watched(world: World) -> None:
    class Unwatched(Watcher):
        async def on_start(self) -> None:
            self.watch("a")

    with pytest.raises(ActorFailed) as failure:
        async with world.system(
            spec("a", Watched),
            spec("w", fresh(Unwatched, record=Record())),
            groups=[GroupSpec(limits=RestartLimits(max_restarts=0))],
        ):
            pass
    assert "w can't watch a: it needs a port to or from it" in str(failure.value)

    class Deaf(Actor):
        other: Ref[GetTotal]

        async def on_start(self) -> None:
            self.watch(self.other)

    with pytest.raises(ActorFailed, match="d can't watch a: it overrides no on_down"):
        async with world.system(
            spec("a", Watched),
            spec("d", Deaf, {"other": "a"}),
            groups=[GroupSpec(limits=RestartLimits(max_restarts=0))],
        ):
            pass


@pytest.mark.anyio
async def test_deterministic_runs_report_ends_alike() -> None:
    async def run() -> list[str]:
        cls = watcher()
        specs = [
            spec("w", cls),
            *(spec(name, Watched, {"watcher": "w"}) for name in ("a", "b", "c")),
        ]
        async with System(specs, AT_ONCE, deterministic=True, seed=3) as system:
            for name in ("a", "b", "c"):
                for amount in (3, 0, 2):
                    await system.ref(name).tell(Add(amount))
            await cls.record.reaches(18)
        return cls.record.entries

    first = await run()
    assert first == await run()
    for name in ("a", "b", "c"):
        mine = [entry for entry in first if entry.startswith(name)]
        messages = [*(f"{name} 0 {number}" for number in range(3)), f"{name} 0 down"]
        assert mine == [*messages, f"{name} 1 0", f"{name} 1 1"]
