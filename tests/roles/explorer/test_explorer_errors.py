"""The explorer under failures: refused and lost chunks, and restarts without a snapshot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actorq.actors import ActorFailed, ActorSpec, Refused, System, handles
from actorq.envs.task import Task
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.replay.messages import Insert, Inserted
from actorq.testing import Record
from tests.actors.world import AT_ONCE, fresh
from tests.roles.actors import AGENT, Inbox, Publish, WeightPublisher, spec, weights

pytestmark = pytest.mark.anyio


class Crashing(Inbox):
    """Crashes over chunks of these numbers, counted from 1 over all its lives."""

    numbers: tuple[int, ...] = ()

    @handles
    async def insert(self, request: Insert) -> Inserted:
        await super().insert(request)
        if len(self.record.entries) in self.numbers:
            raise RuntimeError("no room in my head")
        return Inserted(0, len(request.chunk))


class Refusing(Inbox):
    @handles
    async def insert(self, request: Insert) -> Inserted:
        raise Refused("a chunk too many")


def actors(replay: type[Inbox], explorer: type[Explorer] = Explorer, **given: Any) -> list[ActorSpec]:
    config = Explorer.Config(envs=2, chunk_steps=8, epsilon=0.5)
    tables = {"task": Task(env="CartPole-v1"), "agent": AGENT}
    return [
        spec("replay", fresh(replay, **given)),
        spec("learner", WeightPublisher),
        spec("explorer", explorer, {"replay": "replay", "weights": "learner"}, config, tables=tables),
    ]


async def explore(specs: list[ActorSpec], record: Record[Insert], chunks: int) -> list[int]:
    """Explore until so many chunks have come; returns how often each actor was started again."""
    async with System(specs, AT_ONCE) as system:
        await system.ref("learner").tell(Publish([weights(1, inputs=4)]))
        await record.reaches(chunks)
        return [actor.restarts for actor in system.statistics().actors]


async def test_a_chunk_that_the_replay_crashed_over_is_lost_and_no_more() -> None:
    record: Record[Insert] = Record()
    specs = actors(Crashing, record=record, numbers=(3, 5))
    assert await explore(specs, record, 8) == [2, 0, 0]
    frames = [insert.chunk.frames[0] for insert in record.entries]
    assert len(np.unique(frames, axis=0)) == len(frames), "what was in doubt is not sent again"


async def test_two_lost_in_a_row_are_a_crash() -> None:
    record: Record[Insert] = Record()
    assert await explore(actors(Crashing, record=record, numbers=(3, 4)), record, 8) == [2, 0, 1]


async def test_refused_chunks_are_no_progress() -> None:
    """Else the restart limit would never be reached, and the run never end."""
    with pytest.raises(ActorFailed, match="a chunk too many; restarted 3 times"):
        await explore(actors(Refusing), Record(), 1)


async def test_an_incarnation_from_no_snapshot_is_not_the_same_again() -> None:
    class Faltering(Explorer):
        async def _explore(self) -> None:
            if self.restarts == 0 and self._exploration.env_steps:
                raise RuntimeError("lost my way")
            await super()._explore()

    record: Record[Insert] = Record()
    assert await explore(actors(Inbox, Faltering, record=record), record, 2) == [0, 0, 1]
    first, second = (insert.chunk.frames[:2] for insert in record.entries[:2])
    assert not np.array_equal(first, second)
