"""Pipeline learners below an averaging server synchronize as others do; a death costs little."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from actorq.actors import ActorSpec, Message, System, handles
from actorq.actors.spec import derive_seed
from actorq.roles.averaging.server import AveragingServer
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.pipeline_learner import PipelineLearner
from actorq.roles.pipeline.stage import Stage
from actorq.testing import Record
from tests.actors.world import AT_ONCE, TRANSPORTS, World, fresh, spec
from tests.roles.averaging.test_averaging_learners import COUNT, EVERY, UPDATES, in_a_loop
from tests.roles.averaging.tree import LEARNING, TABLES, Noting, Spring

pytestmark = pytest.mark.anyio


class Die(Message):
    pass


class Mortal(Stage):
    """A stage that crashes when told to."""

    @handles
    async def die(self, _: Die) -> None:
        raise RuntimeError("told to crash")


class Limited(PipelineLearner):
    """Rests after so many updates."""

    resting: ClassVar[Record[str]]
    limit: ClassVar[int] = UPDATES

    async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
        if self.version.updates >= self.limit:
            self.resting.add(self.name)
            await self.event().wait()
        await super()._learn(source, draw)


def pipelines(count: int, cls: type[PipelineLearner], root: type[AveragingServer]) -> list[ActorSpec]:
    """The root, and pipelines of two stages before a spring each."""
    names = tuple(f"learner.{index}" for index in range(count))
    tables = {"agent": LEARNING, "task": TABLES["task"]}
    given: dict[str, Any] = {"count": count, "tables": tables}
    settings = PipelineLearner.Config(synchronize_every_updates=EVERY, draws_ahead=1, micro_batches=2)
    specs = [spec("root", root, seed=derive_seed(0, "root"), tables=tables)]
    for index, name in enumerate(names):
        stages = (f"stage.{index}.0", f"stage.{index}.1")
        specs += [spec(stage, Mortal, {"stages": stages}, tables=tables) for stage in stages]
        specs.append(spec(f"spring.{index}", Spring, index=index, count=count))
        ports: dict[str, str | tuple[str, ...]] = {
            "replay": f"spring.{index}",
            "stages": stages,
            "root": "root",
        }
        specs.append(spec(name, cls, ports, settings, index=index, **given))
    return specs


@pytest.mark.parametrize(
    "world", [World(TRANSPORTS["inproc"], 1), World(TRANSPORTS["nng-ipc"], 3)], ids=["inproc", "nng"]
)
async def test_the_mean_every_so_many_updates(world: World) -> None:
    resting: Record[str] = Record()
    specs = pipelines(COUNT, fresh(Limited, resting=resting), AveragingServer)
    async with world.system(*specs) as system:
        await resting.reaches(COUNT)
    centre, _ = in_a_loop(None)
    np.testing.assert_allclose(system.final_states["root"]["parameters"], centre, rtol=1e-9)


async def test_a_stage_that_dies_costs_its_learner_what_it_learned_since_the_last_meeting() -> None:
    meetings: Record[tuple[int, ...]] = Record()
    root = fresh(Noting, meetings=meetings)
    async with System(pipelines(2, PipelineLearner, root), AT_ONCE) as system:
        await meetings.reaches(3)
        await system.ref("stage.0.1").tell(Die())
        met = len(meetings.entries)
        while (0, 1) not in meetings.entries[met + 2 :]:  # both meet again
            await meetings.reaches(len(meetings.entries) + 1)
    states = system.final_states
    assert all(np.isfinite(states["root"]["parameters"]))
