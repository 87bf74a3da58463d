"""Deaths of stages and their learner, and resumed checkpoints: all are at one update afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from actorq.actors import State, System
from actorq.replay.chunk import Batch
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.pipeline_learner import PipelineLearner
from actorq.roles.pipeline.stage import Stage
from actorq.testing import Record
from tests.actors.world import AT_ONCE, TRANSPORTS, World, fresh
from tests.roles.actors import Watch
from tests.roles.learner.learners import Pile
from tests.roles.parameter_server.server import TASK

from .pipelines import AGENT, SMALL, Doomed, Told, held, learned_by_one, pipeline, stage_names

pytestmark = pytest.mark.anyio


async def test_after_a_stages_death_all_continue_from_a_common_version() -> None:
    watch, died = Watch(), Record[int]()
    stage = fresh(Doomed, dies_at=12, died=died)
    config = Stage.Config(torch_threads=1, restore_within_updates=10)
    specs = pipeline(3, 20, SMALL, stage=stage, stage_config=config)
    async with World(TRANSPORTS["inproc"], 1).system(*specs, reports=watch) as system:
        await watch.progress.has(("updates", 20))
    assert died.entries
    states = system.final_states
    held(states, 3, SMALL)  # all at the same update
    point = states["stage.1"]["points"][-1]
    assert point["updates"] == 18, "12 updates, back to 10, then 8 that the first 20 batches are left for"
    assert watch.counts["updates_lost"] == 2
    assert {states[name]["incarnation"] for name in stage_names(3)} == {point["incarnation"]} != {1}


async def test_where_every_version_is_kept_a_death_costs_nothing() -> None:
    whole = await learned_by_one(SMALL, 12, Told())
    watch, died = Watch(), Record[int]()
    config = Stage.Config(torch_threads=1, restore_within_updates=2)
    specs = pipeline(
        4,
        12,
        SMALL,
        stage=fresh(Doomed, who=2, dies_at=5, died=died),
        stage_config=config,
        columns={"hidden.0": 2},
    )
    async with System(specs, AT_ONCE, deterministic=True, reports=watch) as system:
        await watch.progress.has(("updates", 12))
    assert died.entries
    np.testing.assert_allclose(held(system.final_states, 4, SMALL), whole, rtol=0, atol=1e-5)


async def test_a_learners_next_incarnation_finds_the_stages_as_they_are() -> None:
    died = Record[int]()

    class Mortal(PipelineLearner):
        async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
            if self.version.updates == 6 and not died.entries:
                died.add(self.version.updates)
                raise RuntimeError("mortal")
            await super()._learn(source, draw)

    watch = Watch()
    specs = pipeline(2, 12, SMALL, learner=Mortal)
    async with World(TRANSPORTS["inproc"], 1).system(*specs, reports=watch) as system:
        await watch.progress.has(("updates", 10))
    assert "updates_lost" not in watch.counts
    assert system.final_states["stage.0"]["points"][-1]["updates"] >= 10


# Going on.


class Continued(Pile):
    """Begins with the batch after the first five."""

    def batch(self, number: int) -> Batch:
        return super().batch(number + 5)


async def test_a_run_continues_from_a_checkpoint() -> None:
    whole = await learned_by_one(SMALL, 12, Told())
    states: dict[str, State] = {}
    for pile, updates in ((Pile, 5), (Continued, 7)):
        watch = Watch()
        specs = pipeline(3, updates, SMALL, pile=pile)
        async with System(specs, reports=watch, states=states) as system:
            await watch.progress.has(("updates", updates))
        states = dict(system.final_states)
    np.testing.assert_allclose(held(states, 3, SMALL), whole, rtol=0, atol=1e-5)
    for name, cls in (("learner", PipelineLearner), ("stage.1", Stage)):
        config = cls.Config()
        tables = {"agent": SMALL, "task": TASK}
        assert not list(cls.state_problems(config, tables, states[name]))
    [problem] = Stage.state_problems(Stage.Config(), {"agent": AGENT, "task": TASK}, states["stage.1"])
    assert problem[0] == "agent"
    recut = PipelineLearner.Config(cut=("output",))
    [problem] = PipelineLearner.state_problems(recut, {"agent": SMALL, "task": TASK}, states["learner"])
    assert problem[0] == "config.cut"
