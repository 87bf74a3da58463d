"""A pipeline of stages: learns as the whole network does, holds only its parts, continues after deaths."""

from __future__ import annotations

import heapq
import math
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
import torch
from msgspec import convert
from numpy.typing import NDArray

from actorq.actors import Actor, Group, Ref, Refused, System, handles
from actorq.actors.spec import derive_seed
from actorq.envs.make import describe
from actorq.envs.task import NamedTask
from actorq.learning.networks.factory import make_parameters
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.pipeline.partition import StagePart, layer_groups, part_size
from actorq.learning.pipeline.stage_module import StageModule
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.priority_executor import PriorityExecutor
from actorq.roles.inference.messages import Act, Acted
from actorq.roles.learner.learner import Learner
from actorq.roles.pipeline.messages import Evaluate, Resume, StepStage
from actorq.roles.pipeline.schedule import PipelineSchedule
from actorq.roles.pipeline.stage import Stage
from actorq.roles.replay.messages import Version, Weights
from actorq.testing import Record
from actorq.topology import TopologyError, check
from tests.actors.world import TRANSPORTS, World, fresh, spec
from tests.roles.actors import Watch, WeightsRecorder
from tests.roles.learner.learners import Pile
from tests.roles.parameter_server.server import TASK

from .pipelines import AGENT, SMALL, Doomed, Told, held, learned_by_one, pipeline, stage_names

pytestmark = pytest.mark.anyio

RECIPE = Path(__file__).parents[3] / "recipes" / "model_parallel.toml"


@pytest.mark.parametrize(
    ("stages", "columns", "transport", "updates"),
    [
        (1, {}, "inproc", 30),
        (2, {}, "nng-ipc", 30),
        (3, {}, "encoded", 30),
        (4, {}, "inproc", 30),
        (4, {"hidden.1": 2}, "encoded", 30),
        (5, {"hidden.0": 2, "output": 2}, "inproc", 100),
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
        async def step(self, step: StepStage) -> None:
            assert self._schedule is not None
            held_bytes.add((self.index, self._schedule.most_in_flight_bytes))
            await super().step(step)

    watch, micro_batches = Watch(), 6
    specs = pipeline(stages, 10, stage=Weighing, micro_batches=micro_batches)
    async with System(specs, reports=watch) as system:
        await watch.progress.has(("updates", 10))
    layers = layer_groups(AGENT, [describe(TASK)])
    rows = AGENT.batch_size // micro_batches
    for index, name in enumerate(stage_names(stages)):
        state = system.final_states[name]
        part = convert(state["part"], StagePart)
        assert state["size"] == part_size(layers, part)
        widths = [layer.shapes[0][1] for layer in layers[part.begin : part.end]]
        widths.append(layers[part.end - 1].shapes[0][0])
        each = 2 * 4 * rows * sum(widths)  # with double, s_t and s_{t+n} go through in one product
        most = max(found for stage, found in held_bytes.entries if stage == index)
        assert most <= (stages - index + (index < stages - 1)) * each


class Slow(PriorityExecutor):
    """Forward and backward take a virtual second each, and nothing else takes any time."""

    threads = 1

    def _at_once(self, kind: Any) -> bool:
        return False

    async def _compute_one(self) -> None:
        async with self._turns:
            *_, computation, result = heapq.heappop(self._waiting)
            assert isinstance(computation, partial)
            if computation.args[0].__name__ in ("_compute_forward", "_compute_backward"):
                await self._actor.sleep(1.0)
            value = computation()
        self._under_way -= 1
        result.set(value)


async def test_stages_are_idle_as_long_as_the_pipeline_fills_and_empties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actorq.roles.pipeline.schedule.PriorityExecutor", Slow)
    stages, micro_batches, watch = 3, 6, Watch()
    specs = pipeline(stages, 4, micro_batches=micro_batches)
    async with System(specs, deterministic=True, reports=watch):
        await watch.progress.has(("updates", 4))
    expected = (stages - 1) / (micro_batches + stages - 1)
    shares = watch.all_of("stage_idle_share")
    assert len(shares) >= 3 * stages
    np.testing.assert_allclose(shares, expected, atol=1e-9)


# Whole weights.


async def test_whole_weights_are_gathered_for_subscribers() -> None:
    watch, record = Watch(), Record[Weights]()
    recorder = spec("recorder", fresh(WeightsRecorder, record=record), {"weights": "learner"})
    specs = pipeline(4, 8, SMALL, columns={"hidden.0": 2}, publish_every_updates=4)
    async with System([*specs, recorder], reports=watch) as system:
        await watch.progress.has(("updates", 8))
        await record.reaches(3)
    first, last = record.entries[0], record.entries[-1]
    initial = make_parameters(SMALL, (4,), np.float32, 2, derive_seed(0, "learner"))
    np.testing.assert_array_equal(first.parameters, initial.read())
    np.testing.assert_array_equal(last.parameters, held(system.final_states, 4, SMALL))


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
    recorder = spec("recorder", fresh(WeightsRecorder, record=record), {"weights": "learner"})
    specs = pipeline(
        4,
        12,
        SMALL,
        stage=fresh(Doomed, dies_at=6, died=died),
        stage_config=Stage.Config(torch_threads=1, restore_within_updates=8),
        columns={"hidden.0": 2},
        publish_every_updates=1,
    )

    def both_have_heard_of(updates: int) -> bool:
        published = {weights.version for weights in record.entries}
        return any(acted.version in published for acted in heard.entries if acted.version.updates == updates)

    async with World(TRANSPORTS[transport], 3).system(*specs, recorder, asker, reports=watch) as system:
        await watch.progress.has(("updates", 12))
        # Of versions between only some are told to both: each hears the newest.
        await heard._until(lambda: both_have_heard_of(10))
    policy = make_policy(SMALL, (4,), np.float32, 2)
    published = {weights.version: weights.parameters for weights in record.entries}
    compared = [acted for acted in heard.entries if acted.version in published]
    for acted in compared:
        policy.load(published[acted.version])
        np.testing.assert_allclose(acted.q_values, policy.q_values(observations), atol=1e-5)
    assert not system.statistics().dead_letters or died.entries
    assert all(0.0 <= share <= 1.0 for share in watch.all_of("stage_idle_share")), "acting is not learning"


async def test_how_long_something_takes_changes_nothing_in_a_deterministic_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observations, found = np.zeros((5, 4), np.float32), []
    for long_seconds in (-1.0, math.inf):
        monkeypatch.setattr("actorq.roles.pipeline.schedule.LONG_SECONDS", long_seconds)
        heard, watch = Record[Acted](), Watch()
        asker = spec("asker", fresh(Asker, heard=heard, observations=observations), {"learner": "learner"})
        specs = [*pipeline(3, 10, micro_batches=3), asker]
        async with System(specs, deterministic=True, reports=watch):
            await watch.progress.has(("updates", 10))
        found.append([(acted.version, acted.q_values.tobytes()) for acted in heard.entries])
    assert found[0] == found[1]


async def test_what_waits_when_the_work_is_over_is_refused() -> None:
    began, gate = threading.Event(), threading.Event()

    class Alone(Actor):
        answers: ClassVar[Record[str]]

        async def run(self) -> None:
            layers = layer_groups(SMALL, [describe(TASK)])
            part = StagePart(0, 0, len(layers))
            segment = StageModule(SMALL, [describe(TASK)], 0, part, torch.device("cpu"))
            work = PipelineSchedule(
                self, segment, SMALL.make_algorithm(), Resume(1, Version(0, 0), 0, (part,), 0), Group([])
            )

            async def ask() -> None:
                try:
                    await work.evaluate(Evaluate(Version(1, 0), (np.zeros((5, 4), np.float32),), (5,)))
                    self.answers.add("answered")
                except Refused as refusal:
                    self.answers.add(refusal.reason)

            self.start_soon(work._computer.__call__, AdaptiveExecutor(self), hold)
            await self.in_thread(began.wait, 30.0)
            for _ in range(5):
                self.start_soon(ask)
            for _ in range(10):  # until they wait for their turn
                await self.sleep(0)
            work.close(Refused("it is over"))
            gate.set()

    def hold() -> None:
        began.set()
        assert gate.wait(30.0)

    answers = Record[str]()
    async with System([spec("alone", fresh(Alone, answers=answers))]):
        await answers.reaches(5)
    assert answers.entries == ["it is over"] * 5


# Several tasks.


async def test_stages_learn_several_tasks_as_one_learner_does() -> None:
    """A batch has of each task its share; encoders are the first layer, heads the last."""
    tasks = (
        NamedTask(name="often", env="CartPole-v1", share=2.0),
        NamedTask(name="seldom", env="CartPole-v1"),
    )
    tables, updates, found = {"agent": AGENT, "tasks": tasks}, 20, []
    for roles in ("one", "stages"):
        watch = Watch()
        shares = [
            fresh(Pile, agent=msgspec.structs.replace(AGENT, batch_size=rows), batches=updates, heard=Told())
            for rows in (8, 4)
        ]
        stores = [spec(f"pile.{index}", made) for index, made in enumerate(shares)]
        *stages, learner = pipeline(3, updates, micro_batches=5)[1:]
        if roles == "one":
            stages, config = [], Learner.Config(batches_per_ask=1, draws_ahead=1, torch_threads=1)
            learner = replace(learner, cls=Learner, config=config)
        ports = {**learner.ports, "replay": ("pile.0", "pile.1")}
        taught = [replace(each, tables=tables) for each in stages]
        specs = [*stores, *taught, replace(learner, ports=ports, tables=tables)]
        async with System(specs, reports=watch) as system:
            await watch.progress.has(("updates", updates))
        states = system.final_states
        found.append(held(states, 3, tables=tables) if taught else states["learner"]["parameters"])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)


# What `actorq check` refuses.


def problems_of(**changes: Any) -> str:
    tables = tomllib.loads(RECIPE.read_text())
    for place, value in changes.items():
        *path, last = place.split("__")
        table = reduce(getitem, path, tables)
        if value is None:
            del table[last]
        else:
            table[last] = value
    try:
        check(tables)
    except TopologyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"actors__learner__config__cut": ["hidden.7"]},
            "actors.learner.config.cut: the network has no layer 'hidden.7'",
        ),
        ({"actors__stage__count": 4}, "actors.learner.config.cut: makes 2 stages, and the port stages has 4"),
        ({"actors__learner__config__columns": {"hidden.1": 2}}, "actors.learner.config.cut: makes 4 stages"),
        ({"actors__learner__config__micro_batches": 129}, "is more than agent.batch_size = 128"),
        ({"actors__stage__ports__stages": "stage2"}, 'unknown actor "stage2"'),
        (
            {"agent__network": "tests.learning.custom:Tanh", "agent__hidden": None},
            "has to be an nn.Sequential",
        ),
        ({"task__reward_scale": "adaptive"}, "the whole network to itself"),
        ({}, ""),
    ],
)
def test_what_is_refused(changes: Mapping[str, Any], says: str) -> None:
    found = problems_of(**changes)
    assert says in found
    assert bool(found) == bool(says)
