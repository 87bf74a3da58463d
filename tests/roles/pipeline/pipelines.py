"""A pipeline of stages with batches supplied by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from msgspec import convert
from msgspec.structs import replace
from numpy.typing import NDArray

from actorq.actors import ActorSpec, State, System, handles
from actorq.actors.spec import derive_seed
from actorq.envs.make import describe
from actorq.envs.task import tasks_in
from actorq.learning.agent import Agent
from actorq.learning.pipeline.partition import StagePart, join_parts, layer_groups
from actorq.roles.learner.learner import Learner
from actorq.roles.learner.pipeline_learner import PipelineLearner
from actorq.roles.pipeline.messages import Flow, Returned
from actorq.roles.pipeline.stage import Stage
from actorq.roles.replay.messages import UpdatePriorities
from actorq.testing import Record
from tests.actors.world import fresh, spec
from tests.roles.actors import Watch
from tests.roles.learner.learners import Pile, piles
from tests.roles.parameter_server.server import TASK

AGENT = Agent(
    hidden=(12, 10, 8),
    batch_size=12,
    n_step=1,
    target_every_updates=7,
    max_gradient_norm=0.5,
    learning_rate=0.01,
)
SMALL = replace(AGENT, hidden=(6, 4))

Told = Record[tuple[int, UpdatePriorities]]


def stage_names(count: int) -> tuple[str, ...]:
    return tuple(f"stage.{index}" for index in range(count))


def pipeline(
    count: int,
    updates: int,
    agent: Agent = AGENT,
    *,
    heard: Told | None = None,
    pile: type[Pile] = Pile,
    stage: type[Stage] = Stage,
    learner: type[PipelineLearner] = PipelineLearner,
    stage_config: Stage.Config | None = None,
    nodes: Mapping[str, str] | None = None,
    **settings: Any,
) -> list[ActorSpec]:
    """A pile of batches for so many updates, stages, and the learner with these settings."""
    tables, names, places = {"agent": agent, "task": TASK}, stage_names(count), nodes or {}
    config = PipelineLearner.Config(**{"batches_per_ask": 1, "draws_ahead": 1, **settings})
    given = fresh(pile, agent=agent, batches=updates, heard=Told() if heard is None else heard)
    return [
        spec("pile", given),
        *(
            spec(
                name,
                stage,
                {"stages": names},
                stage_config or Stage.Config(torch_threads=1),
                index=index,
                count=count,
                tables=tables,
                node=places.get(name, "main"),
            )
            for index, name in enumerate(names)
        ),
        spec(
            "learner",
            learner,
            {"replay": "pile", "stages": names},
            config,
            seed=derive_seed(0, "learner"),
            tables=tables,
            node=places.get("learner", "main"),
        ),
    ]


def held(
    states: Mapping[str, State], count: int, agent: Agent = AGENT, tables: Mapping[str, Any] | None = None
) -> NDArray[Any]:
    """The whole vector, of the states of all stages."""
    stages = [states[name] for name in stage_names(count)]
    updates = {state["points"][-1]["updates"] for state in stages}
    assert len(updates) == 1, "all are at the same update"
    parts = [convert(state["part"], StagePart) for state in stages]
    vectors: Sequence[NDArray[Any]] = [state["points"][-1]["parameters"] for state in stages]
    tasks = tasks_in(tables or {"task": TASK})
    return join_parts(layer_groups(agent, list(map(describe, tasks))), parts, vectors)


async def learned_by_one(agent: Agent, updates: int, heard: Told) -> NDArray[Any]:
    """What the role `learner` makes of the same batches."""
    watch = Watch()
    [pile] = piles(1, agent, updates, heard)
    config = Learner.Config(batches_per_ask=1, draws_ahead=1, torch_threads=1)
    learner = spec(
        "learner",
        Learner,
        {"replay": pile.name},
        config,
        seed=derive_seed(0, "learner"),
        tables={"agent": agent, "task": TASK},
    )
    async with System([pile, learner], reports=watch) as system:
        await watch.progress.has(("updates", updates))
    parameters: NDArray[Any] = system.final_states["learner"]["parameters"]
    return parameters


class Doomed(Stage):
    """One of them dies over a micro-batch, once."""

    who: ClassVar[int] = 1
    dies_at: ClassVar[int]
    died: ClassVar[Record[int]]

    @handles(concurrent=1024)
    async def flow(self, request: Flow) -> Returned:
        if self.index == self.who and request.version.updates == self.dies_at and not self.died.entries:
            self.died.add(request.number)
            raise RuntimeError("doomed")
        return await super().flow(request)
