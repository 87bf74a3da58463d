"""Several shards with one rate limiter: one ratio, one beta, nothing lost when they stop."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
import numpy as np
import pytest

from actorq.actors import Refused, System, handles
from actorq.envs.task import Task
from actorq.replay.chunk import Batch
from actorq.replay.ids import shards_of
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.replay.client import ReplayClient
from actorq.roles.replay.messages import AdmitInsert, AdmitSample, Insert
from actorq.testing import Record
from actorq.topology import TopologyError, check
from tests.actors.world import TRANSPORTS, World, fresh, spec
from tests.replay.chunks import changed
from tests.roles.actors import AGENT, Inbox, Publish, WeightPublisher, weights

from .shards import AT_FIRST, MortalLimiter, crash, insert, names_of, numbered, sharded

pytestmark = pytest.mark.anyio

everywhere = pytest.mark.parametrize(
    "world", [World(TRANSPORTS["inproc"], 1), World(TRANSPORTS["nng-ipc"], 3)], ids=["inproc", "nng"]
)
here = World(TRANSPORTS["inproc"], 1)


class Learner:
    """Draws in a learner's place."""

    def __init__(self, system: System, seed: int = 0) -> None:
        self.reader = ReplayClient(system.group("replay"), seed)
        self.batch: Batch | None = None
        self.refused = ""

    async def draw(self, count: int, batches: int = 1) -> Batch:
        return await self.reader.draw(count, batches, AT_FIRST)

    async def try_to_draw(self, count: int) -> None:
        try:
            self.batch = await self.draw(count)
        except Refused as refusal:
            self.refused = refusal.reason


class Noting(MortalLimiter):
    """Notes its error with whatever it lets through."""

    errors: ClassVar[list[float]]

    @handles(concurrent=1024)
    async def admit_insert(self, request: AdmitInsert) -> None:
        await super().admit_insert(request)
        self._note()

    @handles(concurrent=64)
    async def admit_sample(self, request: AdmitSample) -> None:
        await super().admit_sample(request)
        self._note()

    def _note(self) -> None:
        counted = self._gate.state()
        self.errors.append(3.0 * (counted["inserted"] - 20) - counted["sampled"])


async def explore(system: System, explorer: int) -> None:
    """Insert chunks of all lengths, to the shards in turn, until the run stops."""
    group, rng = system.group("replay"), np.random.default_rng(explorer)
    for turn in range(10_000):
        await group[(explorer + turn) % len(group)].ask(insert(int(rng.integers(1, 9))))


@everywhere
@pytest.mark.parametrize("shards", [2, 3])
async def test_all_shards_together_keep_the_pace(world: World, shards: int) -> None:
    """However many insert and sample at once, the error stays within the buffer: 3 * 20 samples."""
    errors: list[float] = []
    limiter, *rest = sharded(shards, limiter={"samples_per_insert": 3.0, "min_size": 20}, beta_batches=1)
    noting = spec("limiter", fresh(Noting, errors=errors), config=limiter.config)
    async with world.system(noting, *rest) as system, anyio.create_task_group() as tasks:
        for shard in system.group("replay"):  # a draw that finds one empty is made anew
            await shard.ask(insert(1))
        for explorer in range(5):
            tasks.start_soon(explore, system, explorer)
        learner = Learner(system)
        for _ in range(60):
            assert len(await learner.draw(10)) == 10
        noted = list(errors)  # stopping, inserts need not wait
        tasks.cancel_scope.cancel()
    states = system.final_states
    inserted = sum(states[name]["replay"]["index"]["first_id"] for name in names_of(shards))
    inserted += sum(len(states[name]["replay"]["index"]["values"]) for name in names_of(shards))
    assert sum(states[name]["replay"]["sampled"] for name in names_of(shards)) == 600
    assert states["limiter"]["inserted"] == inserted, "what was admitted is what went in"
    assert max(noted) <= 60.0
    assert min(noted) >= -60.0
    assert max(noted) - min(noted) > 90.0, "both sides have waited"


@everywhere
async def test_a_refused_chunk_takes_no_room_of_the_limiter(world: World) -> None:
    wrong = Insert(changed(numbered(4, 0), discounts=np.full(4, 2, np.float32)), AT_FIRST)
    async with world.system(*sharded(2, limiter={"samples_per_insert": 1.0, "min_size": 4})) as system:
        group = system.group("replay")
        for turn in range(6):
            with pytest.raises(Refused, match="discounts"):
                await group[turn % 2].ask(wrong)
        await group[0].ask(insert(4))
        await group[1].ask(insert(4))
    assert system.final_states["limiter"]["inserted"] == 8


@everywhere
async def test_beta_goes_by_batches_whatever_shards_they_come_from(world: World) -> None:
    async with world.system(*sharded(3, beta_start=0.0, beta_end=1.0, beta_batches=4)) as system:
        for shard in system.group("replay"):
            await shard.ask(insert(10))
        learner = Learner(system)
        for batches, beta in ((1, 0.0), (2, 0.25), (1, 0.75), (1, 1.0)):
            batch = await learner.draw(8, batches)
            assert len(batch) == 8 * batches
            expected = (batch.probabilities.min() / batch.probabilities) ** beta
            np.testing.assert_allclose(batch.weights, expected, 1e-6)


@everywhere
async def test_stopping_lets_inserts_in_and_turns_samples_back(world: World) -> None:
    """Explorers wait for the limiter through either shard; another run's learner waits for data."""
    pace = {"samples_per_insert": 1.0, "min_size": 4}
    async with anyio.create_task_group() as tasks:
        async with world.system(*sharded(2, limiter=pace)) as system:
            group = system.group("replay")
            await group[0].ask(insert(4))
            await group[1].ask(insert(4))
            for turn in range(6):
                tasks.start_soon(group[turn % 2].ask, insert(3))
            await world.still(system)
            assert (await system.states())["limiter"]["inserted"] == 8
        async with world.system(*sharded(2, limiter=pace)) as other:
            await other.group("replay")[1].ask(insert(3))
            learner = Learner(other)
            tasks.start_soon(learner.try_to_draw, 4)
            await world.still(other)
    assert system.final_states["limiter"]["inserted"] == 8 + 6 * 3
    held = [len(system.final_states[name]["replay"]["index"]["values"]) for name in names_of(2)]
    assert held == [13, 13]
    assert learner.refused == "the run is stopping"
    assert system.statistics().dead_letters == other.statistics().dead_letters == 0


@everywhere
@pytest.mark.parametrize("dying", [0, 1])
async def test_after_a_shards_death_batches_come_from_all_again(world: World, dying: int) -> None:
    async with world.system(*sharded(2, alpha=0.0)) as system:
        group, learner = system.group("replay"), Learner(system)
        for shard in range(2):
            await group[shard].ask(insert(10, 10 * shard))
        assert (await learner.draw(64)).actions.max() == 19
        await crash(group[dying])
        await group[dying].ask(insert(30, 100))
        await learner.draw(64)
        again = await learner.draw(64)
        assert ((again.actions >= 100) == (shards_of(again.ids) == dying)).all()
        assert (again.actions >= 100).sum() == 48, "its share is that of what it holds now"
        assert sum(actor.restarts for actor in system.statistics().actors) == 1


async def test_a_learner_that_waits_outlives_the_shard_that_it_waits_at() -> None:
    """Its draw waits for the limiter, through the first shard; the second life asks there anew."""
    pace = {"samples_per_insert": 1.0, "min_size": 4, "error_buffer_samples": 8.0}
    async with here.system(*sharded(2, limiter=pace)) as system, anyio.create_task_group() as tasks:
        group, learner = system.group("replay"), Learner(system)
        for shard in range(2):
            await group[shard].ask(insert(2))
        await learner.draw(8)
        tasks.start_soon(learner.try_to_draw, 8)
        await here.still(system)
        assert learner.batch is None
        await crash(group[0])
        for _ in range(8):
            await group[0].ask(insert(2))
        await here.still(system)
        assert learner.batch is not None


async def test_continues_from_its_state_as_if_never_stopped() -> None:
    specs = sharded(3, limiter={"samples_per_insert": 2.0, "min_size": 6})

    async def draw(system: System) -> list[list[Any]]:
        learner = Learner(system, seed=3)
        batches = [await learner.draw(4) for _ in range(4)]
        return [[each.ids.tolist(), each.probabilities.tolist(), each.weights.tolist()] for each in batches]

    async with here.system(*specs) as system:
        for shard in system.group("replay"):
            await shard.ask(insert(4))
        states = await system.states()
        expected = await draw(system)
        sampled = (await system.states())["limiter"]
    async with here.system(*specs, states=states) as system:
        assert await draw(system) == expected
        assert (await system.states())["limiter"] == sampled


async def test_explorers_deal_their_chunks_evenly() -> None:
    """Each to the shards in turn, and each beginning with another."""
    shards, explorers = 3, 4
    arrived = Record[int]()

    def shard(index: int) -> type[Inbox]:
        class Counted(Inbox):
            @handles
            async def insert(self, request: Insert) -> Any:
                arrived.add(index)
                return await super().insert(request)

        return fresh(Counted, record=Record[Insert]())

    config = Explorer.Config(envs=1, chunk_steps=2, epsilon=0.5)
    tables = {"task": Task(env="CartPole-v1"), "agent": AGENT}
    names = names_of(shards)
    specs = [
        *(spec(name, shard(index), index=index, count=shards) for index, name in enumerate(names)),
        spec("learner", WeightPublisher),
    ]
    for index in range(explorers):
        ports: dict[str, Any] = {"weights": "learner", "replay": names}
        specs.append(
            spec(f"explorer.{index}", Explorer, ports, config, index=index, count=explorers, tables=tables)
        )
    async with here.system(*specs) as system:
        await system.ref("learner").tell(Publish([weights(1, inputs=4)]))
        seen = list(await arrived.reaches(90))
    first = seen[:explorers]
    assert set(first) == set(range(shards))
    counts = np.bincount(seen, minlength=shards)
    assert counts.max() - counts.min() <= explorers


def topology(shards: int, ports: dict[str, Any], **config: Any) -> dict[str, Any]:
    explorer = {"role": "environment", "ports": {"replay": "replay", "weights": "learner"}}
    return {
        "name": "t",
        "task": {"env": "CartPole-v1"},
        "stop": {"updates": 1},
        "actors": {
            "limiter": {"role": "rate_limiter", "config": {"min_size": 100, "samples_per_insert": 4.0}},
            "replay": {"role": "replay", "count": shards, "ports": ports, "config": config},
            "learner": {"role": "learner", "ports": {"replay": "replay"}},
            "explorer": explorer,
        },
    }


@pytest.mark.parametrize(
    ("wrong", "where", "words"),
    [
        (topology(2, {}), "actors.replay.ports.limiter", 'wire it to an actor of role "rate_limiter"'),
        (
            topology(2, {"limiter": "limiter"}, samples_per_insert=8.0),
            "actors.replay.config.samples_per_insert",
            "the rate limiter at ports.limiter has",
        ),
        (topology(2, {"limiter": "learner"}), "actors.replay.ports.limiter", "AdmitInsert"),
    ],
)
def test_what_is_wrong_between_shards_and_limiter_is_found_before_the_start(
    wrong: dict[str, Any], where: str, words: str
) -> None:
    with pytest.raises(TopologyError) as caught:
        check(wrong)
    assert [problem.where for problem in caught.value.problems] == [where]
    assert words in str(caught.value)


def test_a_replay_in_each_group_is_no_shard_unless_someone_draws_from_all() -> None:
    file = topology(1, {})
    file["groups"] = {"edge": {"actors": ["replay", "learner", "explorer"], "count": 2}}
    assert sum("replay" in each.name for each in check(file).specs) == 2
    file["groups"]["edge"]["actors"] = ["replay", "explorer"]
    with pytest.raises(TopologyError, match="several shards share one rate limiter"):
        check(file)


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_behind_a_limiter_are_right(shards: int) -> None:
    plan = check(topology(shards, {"limiter": "limiter"}))
    assert sum(each.name.startswith("replay") for each in plan.specs) == shards
