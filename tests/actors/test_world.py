"""The tests' own helper: `still` returns neither too early nor too late."""

from typing import ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actorq.actors import Actor, Ref, handles
from actorq.actors.runtime.watchdog import TICKS_A_SECOND
from actorq.testing import Record

from .messages import Add
from .world import World, all_blocked, fresh, spec

pytestmark = pytest.mark.anyio


class Player(Actor):
    """Sends a ball back until it has flown often enough; the last one is held."""

    other: Ref[Add]
    seen: ClassVar[Record[int]]
    gate: ClassVar[anyio.Event]

    @handles
    async def play(self, message: Add) -> None:
        self.seen.add(message.amount)
        if message.amount:
            await self.other.tell(Add(message.amount - 1))
        else:
            await self.gate.wait()


async def test_still_waits_for_all_that_is_on_its_way_and_for_no_handler_that_waits(world: World) -> None:
    player = fresh(Player, seen=Record(), gate=anyio.Event())
    async with world.system(spec("a", player, {"other": "b"}), spec("b", player, {"other": "a"})) as system:
        await system.ref("a").tell(Add(50))
        await world.still(system)
        assert player.seen.entries == list(range(50, -1, -1))
        assert sum(actor.mailbox.in_progress for actor in system.statistics().actors) == 1
        await world.still(system)
        player.gate.set()


async def test_a_task_that_ticks_in_step_with_anyios_looks_is_no_hindrance() -> None:
    async def tick() -> None:
        await checkpoint()  # is found at work at the first look, and from then on at every one
        await checkpoint()
        while True:  # noqa: ASYNC110 - as a watchdog does
            await anyio.sleep(1 / TICKS_A_SECOND)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await all_blocked()
        tasks.cancel_scope.cancel()
