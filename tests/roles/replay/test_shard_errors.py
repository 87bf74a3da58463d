"""Crashes of shards and limiter while others wait: what continues, what counts, and that nothing hangs."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import anyio
import numpy as np
import pytest

from actorq.actors import ActorDied, Refused, System
from actorq.replay.buffer import make_replay
from actorq.roles.replay.backend import MemoryBackend
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities
from actorq.topology import check
from tests.actors.world import TRANSPORTS, World, fresh

from .shards import AT_FIRST, Mortal, Settle, crash, insert, names_of, numbered, sharded
from .test_sharded_replay import Learner, topology

pytestmark = pytest.mark.anyio

here = World(TRANSPORTS["inproc"], 1)
PACE = {"samples_per_insert": 1.0, "min_size": 20, "error_buffer_samples": 40.0}


async def fill(system: System) -> None:
    """As many inserts as the limiter lets through: 60."""
    for turn in range(6):
        await system.group("replay")[turn % 2].ask(insert(10, 10 * turn))


async def try_to_insert(system: System, shard: int) -> None:
    with suppress(ActorDied):  # an explorer loses a chunk
        await system.group("replay")[shard].ask(insert(10))


def incarnations(system: System) -> dict[str, int]:
    return {actor.name: actor.restarts for actor in system.statistics().actors}


async def test_the_limiters_crash_leaves_the_shards_alive() -> None:
    async with here.system(*sharded(2, limiter=PACE)) as system, anyio.create_task_group() as tasks:
        await fill(system)
        for turn in range(4):
            tasks.start_soon(system.group("replay")[turn % 2].ask, insert(10))
        await here.still(system)
        await crash(system.ref("limiter"))
    assert incarnations(system) == {"limiter": 1, "replay.0": 0, "replay.1": 0}
    held = [len(system.final_states[f"replay.{shard}"]["replay"]["index"]["values"]) for shard in range(2)]
    assert held == [50, 50]


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_shard_that_restarts_empty_delays_no_actor(shards: int) -> None:
    """Every explorer waits for the learner, whose draw of 4 pays for less than a chunk of 10."""
    specs = sharded(2, limiter=PACE)[: 1 + shards]
    async with here.system(*specs) as system, anyio.create_task_group() as tasks:
        for turn in range(6):
            await system.ref(f"replay.{turn % shards}").ask(insert(10))
        learner = Learner(system)
        await crash(system.ref(f"replay.{shards - 1}"))
        for turn in range(4):
            tasks.start_soon(try_to_insert, system, turn % shards)
        await here.still(system)
        assert len(await learner.draw(4)) == 4
        assert len(await learner.draw(4)) == 4
        tasks.cancel_scope.cancel()  # whoever still waits for the limiter


async def test_at_a_shards_death_no_chunk_is_counted_that_is_in_no_shard() -> None:
    async with here.system(*sharded(2, limiter=PACE)) as system, anyio.create_task_group() as tasks:
        await fill(system)
        for _ in range(6):
            tasks.start_soon(try_to_insert, system, 0)
        await here.still(system)
        await crash(system.ref("replay.0"))
        tasks.cancel_scope.cancel()
    assert system.final_states["limiter"]["inserted"] <= 60 + 10


async def test_priorities_for_what_a_shard_has_lost_come_too_late() -> None:
    async with here.system(*sharded(1, alpha=1.0)) as system:
        shard = system.ref("replay.0")
        await shard.ask(insert(10))
        (drawn,) = [await shard.ask(DrawSample(4, AT_FIRST))]
        await crash(shard)
        await shard.ask(Insert(numbered(10, 100, np.ones(10)), AT_FIRST))
        await shard.tell(UpdatePriorities(drawn.sample.ids, np.full(4, 1e6, np.float32)))
        await shard.ask(Settle())
        again = await shard.ask(DrawSample(4, AT_FIRST))
        np.testing.assert_allclose(again.sample.probabilities, 0.1, 1e-3)


async def test_a_chunk_too_large_for_its_shard_leaves_the_bounds_as_they_were() -> None:
    pace = {"samples_per_insert": 1.0, "min_size": 4}
    specs = sharded(1, limiter=pace, capacity=50)
    async with here.system(*specs) as system, anyio.create_task_group() as tasks:
        with pytest.raises(Refused, match="capacity"):
            await system.ref("replay.0").ask(insert(51))
        await system.ref("replay.0").ask(insert(4))
        await system.ref("replay.0").ask(insert(4))
        tasks.start_soon(system.ref("replay.0").ask, insert(4))
        await here.still(system)
        assert system.statistics().actors[1].mailbox.in_progress == 1, "it waits"
        tasks.cancel_scope.cancel()


async def test_priorities_of_a_wrong_shape_are_refused() -> None:
    async with here.system(*sharded(1)) as system:
        shard = system.ref("replay.0")
        await shard.ask(insert(10))
        await shard.tell(UpdatePriorities(np.arange(4), np.ones(3, np.float32)))
        await shard.tell(UpdatePriorities(np.arange(4).reshape(2, 2), np.ones((2, 2), np.float32)))
        await shard.ask(Settle())
        assert incarnations(system)["replay.0"] == 0
    assert system.statistics().actors[1].mailbox.refused == 2


async def test_a_shard_that_dies_again_and_again_is_asked_again() -> None:
    async with here.system(*sharded(2, limiter=PACE)) as system, anyio.create_task_group() as tasks:
        learner = Learner(system)
        drawn: list[int] = []

        async def draw() -> None:
            drawn.append(len(await learner.draw(4)))

        tasks.start_soon(draw)
        for _ in range(2):
            await here.still(system)
            await crash(system.ref("replay.0"))
        for turn in range(4):
            await system.group("replay")[turn % 2].ask(insert(10))
    assert drawn == [4]


class Forgetful(Mortal):
    """Holds nothing any more, in the middle of its life: as a shard does whose Redis has lost all."""

    alive: ClassVar[list[Forgetful]]

    async def on_start(self) -> None:
        await super().on_start()
        self.alive.append(self)

    def forget(self) -> None:
        self._holding = MemoryBackend(make_replay(self.config), 1 << 40)


@pytest.mark.parametrize("shards", [1, 2])
async def test_shards_that_forget_all_let_what_waits_go_in(shards: int) -> None:
    """Inserts wait for samples already, and there is nothing to sample any more."""
    cls = fresh(Forgetful, alive=[])
    specs = sharded(shards, shard=cls, limiter=PACE)
    async with here.system(*specs) as system, anyio.create_task_group() as tasks:
        for turn in range(6):
            await system.ref(names_of(shards)[turn % shards]).ask(insert(10))
        for turn in range(4):
            tasks.start_soon(try_to_insert, system, turn % shards)
        await here.still(system)
        for shard in cls.alive:
            shard.forget()
        assert len(await Learner(system).draw(4)) == 4
        tasks.cancel_scope.cancel()


def test_the_least_size_is_the_limiters_not_that_of_a_small_shard() -> None:
    check(topology(3, {"limiter": "limiter"}, capacity=500))
