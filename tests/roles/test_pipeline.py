"""A pipeline of stages: learns as the whole network does, holds only its parts, goes on after deaths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from msgspec import convert
from numpy.typing import NDArray

from actorq.actors import Actor, Ref, Refused, State, System, handles
from actorq.actors.spec import derive_seed
from actorq.dqn.acting import make_policy
from actorq.dqn.agent import Agent
from actorq.dqn.cuts import Part, layer_shapes, part_size
from actorq.dqn.making import make_parameters
from actorq.envs.make import describe
from actorq.replay.experience import Batch
from actorq.roles.computing import Computing
from actorq.roles.inference_messages import Act, Acted
from actorq.roles.learner import Learner
from actorq.roles.messages import Weights
from actorq.roles.pipeline_learner import PipelineLearner
from actorq.roles.stage import Stage
from actorq.roles.stage_messages import Flow, Returned, Step
from actorq.testing import Record
from tests.actors.world import AT_ONCE, TRANSPORTS, World, fresh, spec
from tests.roles.cast import Follower, Watch
from tests.roles.learners import Pile, piles
from tests.roles.pipelines import AGENT, SMALL, Told, held, pipeline, stage_names
from tests.roles.server import TASK

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize(
    ("stages", "columns", "transport", "updates"),
    [
        (1, {}, "inproc", 100),
        (2, {}, "nng-ipc", 100),
        (3, {}, "encoded", 100),
        (4, {}, "inproc", 100),
        (4, {"hidden.1": 2}, "encoded", 20),
        (5, {"hidden.0": 2, "output": 2}, "inproc", 20),
    ],
)
async def test_stages_learn_what_one_learner_learns(
    stages: int, columns: Mapping[str, int], transport: str, updates: int
) -> None:
    expected, heard, watch = Told(), Told(), Watch()
    whole = await learned_by_one(AGENT, updates, expected)
    specs = pipeline(stages, updates, heard=heard, columns=columns, micro_batches=3)
    async with World(TRANSPORTS[transport], 3).system(*specs, reports=watch) as system:
        await watch.progress.has(("updates", updates))
    np.testing.assert_allclose(held(system.final_states, stages), whole, rtol=0, atol=1e-5)
    assert len(heard.entries) == updates
    for (_, told), (_, wanted) in zip(heard.entries, expected.entries, strict=True):
        np.testing.assert_array_equal(told.ids, wanted.ids)
        np.testing.assert_allclose(told.priorities, wanted.priorities, atol=1e-4)
    assert not system.statistics().dead_letters


# What a stage holds.


@pytest.mark.parametrize("stages", [2, 3])
async def test_a_stage_holds_its_part_and_what_is_in_flight(stages: int) -> None:
    held_bytes: Record[tuple[int, int]] = Record()

    class Weighing(Stage):
        @handles
        async def step(self, step: Step) -> None:
            assert self._work is not None
            held_bytes.add((self.index, self._work.most_in_flight_bytes))
            await super().step(step)

    watch, micro_batches = Watch(), 6
    specs = pipeline(stages, 10, stage=Weighing, micro_batches=micro_batches)
    async with System(specs, reports=watch) as system:
        await watch.progress.has(("updates", 10))
    layers = layer_shapes(AGENT, [describe(TASK)])
    rows = AGENT.batch_size // micro_batches
    for index, name in enumerate(stage_names(stages)):
        state = system.final_states[name]
        part = convert(state["part"], Part)
        assert state["size"] == part_size(layers, part)
        widths = [layer.shapes[0][1] for layer in layers[part.begin : part.end]]
        widths.append(layers[part.end - 1].shapes[0][0])
        each = 4 * rows * sum(widths)
        most = max(found for stage, found in held_bytes.entries if stage == index)
        assert most <= (stages - index + (index < stages - 1)) * each


class Slow(Computing):
    """Forward and backward take a virtual second each, and nothing else takes any time."""

    async def __call__(self, function: Any, *given: Any) -> Any:  # type: ignore[override]
        if function.__name__ in ("forward", "backward"):
            await self._actor.sleep(1.0)
        return await super().__call__(function, *given)


async def test_stages_are_idle_as_long_as_the_pipeline_fills_and_empties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actorq.roles.stage_work.Computing", Slow)
    stages, micro_batches, watch = 3, 6, Watch()
    specs = pipeline(stages, 4, micro_batches=micro_batches)
    async with System(specs, deterministic=True, reports=watch):
        await watch.progress.has(("updates", 4))
    expected = (stages - 1) / (micro_batches + stages - 1)
    shares = watch.all_of("stage_idle_share")
    assert len(shares) >= 3 * stages
    np.testing.assert_allclose(shares, expected, atol=1e-9)


# Deaths.


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


async def test_after_a_stages_death_all_go_on_from_a_common_version() -> None:
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


async def test_a_learners_next_life_finds_the_stages_as_they_are() -> None:
    died = Record[int]()

    class Mortal(PipelineLearner):
        async def _update(self, batches: Any) -> Any:
            if self._updates == 6 and not died.entries:
                died.add(self._updates)
                raise RuntimeError("mortal")
            return await super()._update(batches)

    watch = Watch()
    specs = pipeline(2, 12, SMALL, learner=Mortal)
    async with World(TRANSPORTS["inproc"], 1).system(*specs, reports=watch) as system:
        await watch.progress.has(("updates", 10))
    assert "updates_lost" not in watch.counts
    assert system.final_states["stage.0"]["points"][-1]["updates"] >= 10


# Weights, and going on.


async def test_whole_weights_are_gathered_for_who_subscribes() -> None:
    watch, record = Watch(), Record[Weights]()
    follower = spec("follower", fresh(Follower, record=record), {"weights": "learner"})
    specs = pipeline(4, 8, SMALL, columns={"hidden.0": 2}, publish_every_updates=4)
    async with System([*specs, follower], reports=watch) as system:
        await watch.progress.has(("updates", 8))
        await record.reaches(3)
    first, last = record.entries[0], record.entries[-1]
    initial = make_parameters(SMALL, (4,), np.float32, 2, derive_seed(0, "learner"))
    np.testing.assert_array_equal(first.parameters, initial.read())
    np.testing.assert_array_equal(last.parameters, held(system.final_states, 4, SMALL))


class Continued(Pile):
    """Begins with the batch after the first five."""

    def batch(self, number: int) -> Batch:
        return super().batch(number + 5)


async def test_a_run_goes_on_from_a_checkpoint() -> None:
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
        assert not list(cls.state_faults(config, tables, states[name]))
    [fault] = Stage.state_faults(Stage.Config(), {"agent": AGENT, "task": TASK}, states["stage.1"])
    assert fault[0] == "agent"
    recut = PipelineLearner.Config(cut=("output",))
    [fault] = PipelineLearner.state_faults(recut, {"agent": SMALL, "task": TASK}, states["learner"])
    assert fault[0] == "config.cut"


# Acting.


class Asker(Actor):
    """Asks what acting is worth, as soon as it can and while the pipeline learns; keeps what it hears."""

    heard: ClassVar[Record[Acted]]
    observations: ClassVar[NDArray[Any]]
    learner: Ref[Act]

    async def run(self) -> None:
        while True:
            try:
                self.heard.add(await self.learner.ask(Act(self.observations.copy())))
            except Refused:
                return


@pytest.mark.parametrize("transport", ["inproc", "nng-ipc"])
async def test_stages_act_as_weights_of_the_same_version_do(transport: str) -> None:
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    heard, record, died, watch = Record[Acted](), Record[Weights](), Record[int](), Watch()
    asker = spec("asker", fresh(Asker, heard=heard, observations=observations), {"learner": "learner"})
    follower = spec("follower", fresh(Follower, record=record), {"weights": "learner"})
    specs = pipeline(
        4,
        12,
        SMALL,
        stage=fresh(Doomed, dies_at=6, died=died),
        stage_config=Stage.Config(torch_threads=1, restore_within_updates=8),
        columns={"hidden.0": 2},
        publish_every_updates=1,
    )
    async with World(TRANSPORTS[transport], 3).system(*specs, follower, asker, reports=watch) as system:
        await watch.progress.has(("updates", 12))
        await heard.reaches(len(heard.entries) + 1)
    policy = make_policy(SMALL, (4,), np.float32, 2)
    published = {weights.version: weights.parameters for weights in record.entries}
    compared = [acted for acted in heard.entries if acted.version in published]
    assert compared
    for acted in compared:
        policy.load(published[acted.version])
        np.testing.assert_allclose(acted.q_values, policy.q_values(observations), atol=1e-5)
    assert heard.entries[-1].version.updates >= 10
    assert not system.statistics().dead_letters or died.entries
