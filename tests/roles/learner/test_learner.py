"""The learner: what it publishes, and that it continues from its state bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from actorq.actors import Actor, ActorSpec, Ref, State, Stopping, System, handles
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.messages import (
    DrawSample,
    Insert,
    SampleReply,
    UpdatePriorities,
    Version,
    Weights,
)
from actorq.roles.replay.shard import ReplayShard
from actorq.testing import Record
from tests.actors.world import fresh
from tests.replay.chunks import make_chunk
from tests.roles.actors import Watch, WeightsRecorder, spec
from tests.roles.test_deterministic import assert_identical

pytestmark = pytest.mark.anyio

TABLES = {
    "task": Task(env="CartPole-v1"),
    "agent": Agent(hidden=(8,), batch_size=4, target_every_updates=7),
}


def actors(record: Record[Weights], **config: Any) -> list[ActorSpec]:
    memory = ReplayShard.Config(capacity=100, min_size=20, sampling="uniform")
    return [
        spec("replay", ReplayShard, config=memory),
        spec(
            "learner",
            Learner,
            {"replay": "replay"},
            Learner.Config(batches_per_ask=1, draws_ahead=1, **config),
            tables=TABLES,
        ),
        spec("recorder", fresh(WeightsRecorder, record=record), {"weights": "learner"}),
    ]


class Tap(Actor):
    """Stands between learner and replay: lets so many samples through, and no more."""

    left: ClassVar[int]
    replay: Ref[DrawSample | UpdatePriorities]

    async def on_start(self) -> None:
        self.samples = self.left
        self.end = self.event()

    @handles(concurrent=2)
    async def sample(self, request: DrawSample) -> SampleReply:
        if not self.samples:
            await self.end.wait()
            raise Stopping
        self.samples -= 1
        return await self.replay.ask(request)

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        await self.replay.tell(message)

    def on_drain(self) -> None:
        self.end.set()


async def experience(system: System) -> None:
    """Fill the replay with what could be CartPole's."""
    chunk = make_chunk(20, frame_shape=(4,))
    frames = np.sin(chunk.frames + np.arange(4, dtype=np.float32))
    plausible = msgspec.structs.replace(chunk, frames=frames, actions=chunk.actions % 2)
    await system.ref("replay").ask(Insert(plausible, Version(0, 0)))


async def learn(updates: int, states: dict[str, State] | None = None) -> dict[str, State]:
    """Make so many updates, deterministically, from `states` on; returns all states."""
    watch = Watch()
    replay, learner, recorder = actors(Record())
    tap = spec("tap", fresh(Tap, left=updates), {"replay": "replay"})
    specs = [replay, tap, replace(learner, ports={"replay": ("tap",)}), recorder]
    async with System(specs, deterministic=True, states=states, reports=watch) as system:
        if states is None:
            await experience(system)
        await watch.progress.has(("updates", updates))
    assert watch.counts["updates"] == updates
    return system.final_states


async def test_continues_from_its_state_bit_for_bit() -> None:
    """With a uniform replay; with priorities, which new ones the next batch knows depends on the turns."""
    whole = await learn(30)
    halves = await learn(12, await learn(18))
    assert whole["learner"]["updates"] == 30
    assert_identical(halves, whole)


async def test_adaptive_scales_affect_only_the_learner() -> None:
    """What is published and kept are plain parameters, though heads and statistics move with every update."""
    record: Record[Weights] = Record()
    watch = Watch()
    async with System(adapting(record), deterministic=True, reports=watch) as system:
        await experience(system)
        await record.reaches(20)
    scales = watch.all_of("target_scale/CartPole-v1")
    assert scales[0] != scales[-1]
    kept = system.final_states["learner"]
    np.testing.assert_array_equal(record.entries[-1].parameters, kept["parameters"])
    resumed: Record[Weights] = Record()
    async with System(adapting(resumed), deterministic=True, states=system.final_states):
        await resumed.reaches(1)
    assert resumed.entries[0].version.updates == kept["updates"]
    np.testing.assert_allclose(resumed.entries[0].parameters, kept["parameters"], rtol=1e-5, atol=1e-6)


def adapting(record: Record[Weights]) -> list[ActorSpec]:
    replay, learner, recorder = actors(record, publish_every_updates=1)
    task = Task(env="CartPole-v1", reward_scale="adaptive")
    return [replay, replace(learner, tables=TABLES | {"task": task}), recorder]


async def test_publishes_at_once_and_every_so_many_updates() -> None:
    record: Record[Weights] = Record()
    watch = Watch()
    async with System(actors(record, publish_every_updates=5), deterministic=True, reports=watch) as system:
        await record.reaches(1)
        assert record.entries[0].version == Version(0, 0)
        await experience(system)
        await record.reaches(4)
    assert [weights.version.updates for weights in record.entries[:4]] == [0, 5, 10, 15]
    sizes = {weights.parameters.shape for weights in record.entries}
    assert sizes == {(4 * 8 + 8 + 8 * 2 + 2,)}
    assert not np.array_equal(record.entries[0].parameters, record.entries[1].parameters)
    assert watch.all_of("loss")


async def test_a_crash_costs_an_incarnation_and_keeps_the_snapshot() -> None:
    class Faltering(Learner):
        async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
            if self.restarts == 0 and self.version.updates == 12:
                raise ArithmeticError("the loss is not a number")
            await super()._learn(source, draw)

    record: Record[Weights] = Record()
    specs = actors(record, publish_every_updates=5)
    specs[1] = replace(specs[1], cls=Faltering, snapshot_every_updates=5)
    async with System(specs, deterministic=True) as system:
        await experience(system)
        while record.entries[-1:] == [] or record.entries[-1].version.incarnation == 0:
            await record.reaches(len(record.entries) + 1)
    versions = [weights.version for weights in record.entries]
    again = next(version for version in versions if version.incarnation == 1)
    assert Version(0, 10) in versions
    assert 5 <= again.updates <= 12, "from the last snapshot, not from nothing"


async def test_several_batches_are_drawn_with_one_message() -> None:
    """Three updates for one ask and one message of priorities."""
    watch, ahead = Watch(), 2
    replay, learner, recorder = actors(Record())
    config = Learner.Config(batches_per_ask=3, draws_ahead=ahead)
    specs = [replay, replace(learner, config=config), recorder]
    async with System(specs, reports=watch) as system:
        await experience(system)
        await watch.progress.has(("updates", 12))
        statistics = {actor.name: actor for actor in system.statistics().actors}
        sent = {link.target: link.sent for link in statistics["learner"].channels}
        draws = watch.counts["updates"] // 3
    # At most a draw is in progress whose priorities have been told, and so many have been asked for besides.
    assert 2 * draws <= sent["replay"] <= 2 * (draws + 1) + ahead
