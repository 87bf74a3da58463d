"""Batches of several tasks: each from its own shards, in its share, and priorities go back there."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import pytest

from actorq.actors import Group, State
from actorq.envs.task import NamedTask
from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.replay.client import DatasetConfig, ReplayDataset
from actorq.roles.replay.messages import DrawSample, Insert, UpdatePriorities
from tests.actors.world import TRANSPORTS, World, fresh, spec
from tests.roles.actors import Watch
from tests.roles.replay.shards import AT_FIRST, numbered, sharded

pytestmark = pytest.mark.anyio

TASKS = (NamedTask(env="CartPole-v1", name="a"), NamedTask(env="Acrobot-v1", name="b", share=3.0))
TABLES = {"tasks": TASKS, "agent": Agent(batch_size=8)}
UPDATES, ROUNDS = 4, 5


class Pupil(LearningActor):
    """Fills four shards, two of each task, then learns of so many draws that a TD error is its action."""

    class Config(DatasetConfig):
        batches_per_ask: int = UPDATES
        draws_ahead: int = 2

    replay: Group[DrawSample | UpdatePriorities | Insert]
    learned: ClassVar[list[list[list[Batch]]]]

    async def run(self) -> None:
        for shard, ref in enumerate(self.replay):
            await ref.ask(Insert(numbered(50, 100 * shard), AT_FIRST))
        feed = ReplayDataset(self, self.replay, self.config, lambda: AT_FIRST)
        for _ in range(ROUNDS):
            draw = await feed.next()
            self.learned.append([[cast(Batch, it) for it in update] for update in draw])
            errors = {
                number: np.concatenate([batch.actions for batch in update]).astype(np.float32)
                for number, update in enumerate(draw)
            }
            await feed.update(errors)
        self.progress("done")

    def state(self) -> State:
        return {}


@pytest.mark.parametrize(
    "world", [World(TRANSPORTS["inproc"], 1), World(TRANSPORTS["nng-ipc"], 3)], ids=["inproc", "nng"]
)
async def test_tasks_have_shards_and_shares_of_their_own(world: World) -> None:
    learned: list[list[list[Batch]]] = []
    shards = sharded(4, alpha=1.0, epsilon=1e-6)
    names = tuple(shard.name for shard in shards[1:])
    pupil = spec("pupil", fresh(Pupil, learned=learned), {"replay": names}, tables=TABLES)
    watch = Watch()
    async with world.system(*shards, pupil, reports=watch) as system:
        await watch.progress.has(("done", 1))
    assert len(learned) == ROUNDS
    drawn: dict[int, set[int]] = {}
    for update in (update for draw in learned for update in draw):
        assert [len(batch) for batch in update] == [2, 6]
        for task, batch in enumerate(update):
            assert set(batch.actions // 100) <= {2 * task, 2 * task + 1}, "from the task's own shards"
            drawn.setdefault(task, set()).update(batch.actions.tolist())
    for shard, name in enumerate(names):
        index: dict[str, Any] = system.final_states[name]["replay"]["index"]
        values = np.asarray(index["values"])
        for action in drawn[shard // 2]:
            if action // 100 == shard:
                assert values[action % 100] == pytest.approx(action, rel=1e-5), "its TD error's size"
