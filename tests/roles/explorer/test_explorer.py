"""The explorer: acts with the newest weights, continues after a crash, begins new episodes when resumed."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from actorq.actors import ActorSpec, System
from actorq.envs.task import Task
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.replay.messages import Insert, Version
from actorq.testing import Record
from tests.actors.world import AT_ONCE, all_blocked, fresh
from tests.roles.actors import AGENT, Inbox, Publish, Watch, WeightPublisher, spec, weights

pytestmark = pytest.mark.anyio

CARTPOLE = {"task": Task(env="CartPole-v1"), "agent": AGENT}


class Faltering(Explorer):
    """Crashes once, after some chunks."""

    after_steps: ClassVar[int] = 32

    async def _explore(self) -> None:
        if self.restarts == 0 and self._exploration.env_steps >= self.after_steps:
            raise RuntimeError("lost my way")
        await super()._explore()


def actors(record: Record[Insert], explorer: type[Explorer] = Explorer) -> list[ActorSpec]:
    config = Explorer.Config(envs=2, chunk_steps=8, epsilon=0.5)
    return [
        spec("replay", fresh(Inbox, record=record)),
        spec("learner", WeightPublisher),
        spec("explorer", explorer, {"replay": "replay", "weights": "learner"}, config, tables=CARTPOLE),
    ]


def of_cartpole(updates: int, incarnation: int = 0) -> Any:
    return weights(updates, incarnation, inputs=4)


async def test_waits_for_weights_and_then_acts_with_the_newest() -> None:
    record: Record[Insert] = Record()
    async with System(actors(record)) as system:
        await all_blocked()
        assert record.entries == [], "nothing to act with yet"
        await system.ref("learner").tell(Publish([of_cartpole(updates) for updates in range(100)]))
        await record.reaches(3)
        learner = next(actor for actor in system.statistics().actors if actor.name == "learner")
    assert {insert.version.updates for insert in record.entries} <= set(range(100))
    assert record.entries[-1].version == Version(0, 99)
    (link,) = learner.channels
    assert link.superseded > 0, "only the newest unread weights count"
    assert link.handled + link.superseded == 100


async def test_continues_after_a_crash_with_the_newest_weights() -> None:
    record: Record[Insert] = Record()
    watch = Watch()
    async with System(actors(record, Faltering), AT_ONCE, reports=watch) as system:
        await system.ref("learner").tell(Publish([of_cartpole(7)]))
        await record.reaches(10)
        statistics = system.statistics()
    assert [actor.restarts for actor in statistics.actors] == [0, 0, 1]
    assert {insert.version for insert in record.entries} == {Version(0, 7)}
    assert statistics.dead_letters == 0
    assert watch.counts["env_steps"] >= 9 * 16, "each chunk that is in counts, 16 environment steps"


async def test_resumed_it_begins_new_episodes() -> None:
    """Environments can't be saved: what goes on is the count of steps, the generator, and fresh seeds."""
    first: Record[Insert] = Record()
    async with System(actors(first), deterministic=True) as system:
        await system.ref("learner").tell(Publish([of_cartpole(1)]))
        await first.reaches(4)
    states = system.final_states
    second: Record[Insert] = Record()
    async with System(actors(second), deterministic=True, states=states) as system:
        await system.ref("learner").tell(Publish([of_cartpole(1)]))
        await second.reaches(1)
    began, again = (record.entries[0].chunk.frames[:2] for record in (first, second))
    assert not np.array_equal(began, again)
    steps = [state["explorer"]["environments"]["env_steps"] for state in (states, system.final_states)]
    assert 0 < steps[0] < steps[1]
