"""Gradient learners: several equal one with their batches joined, and each continues when another dies."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from actorq.actors import ActorSpec, State, System
from actorq.actors.spec import derive_seed
from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.networks.factory import make_parameters
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.learner.gradient_learner import GradientLearner
from actorq.roles.parameter_server.messages import Fetch, Gradient, Pull, Push
from actorq.roles.replay.messages import UpdatePriorities
from actorq.roles.replay.rate_limiter import RateLimiterActor
from actorq.roles.replay.shard import ReplayShard
from actorq.testing import Record
from tests.actors.world import TRANSPORTS, World, fresh, spec
from tests.launchers.actors import Board
from tests.launchers.nodes import Heard, actor, board, running
from tests.roles.actors import Watch
from tests.roles.learner.learners import Pile, learners, piles
from tests.roles.parameter_server.server import Bystander
from tests.roles.test_deterministic import assert_identical
from tests.roles.topologies import batch_of

from .server_actors import AGENT, SHARDS, SIZE, TABLES, Door, Shelf, members
from .test_parallel_equals_serial import ADAM, RMSPROP, UPDATES, WITHIN, plain_loop

__all__ = ["board"]

pytestmark = pytest.mark.anyio

Told = Record[tuple[int, UpdatePriorities]]


def fed(count: int, shards: int, agent: Agent, batches: int, heard: Told, **given: Any) -> list[ActorSpec]:
    """Learners, each before a pile of its own."""
    own = piles(count, agent, batches, heard)
    return [*own, *learners([(pile.name,) for pile in own], shards, agent, **given)]


# Several are one.


@pytest.mark.parametrize("agent", [RMSPROP, ADAM], ids=lambda agent: f"{agent.optimizer}-{agent.dtype}")
@pytest.mark.parametrize(
    ("count", "shards", "batches_per_ask", "transport"),
    [(2, 2, 1, "inproc"), (2, 1, 4, "nng-ipc"), (3, 2, 5, "inproc")],
)
async def test_synchronous_ones_are_one_with_their_batches_in_one(
    agent: Agent, count: int, shards: int, batches_per_ask: int, transport: str
) -> None:
    heard, watch = Told(), Watch()
    config = GradientLearner.Config(batches_per_ask=batches_per_ask, draws_ahead=1)
    specs = fed(count, shards, agent, UPDATES, heard, config=config, rule="synchronous")
    nodes = 1 if transport == "inproc" else 2
    async with World(TRANSPORTS[transport], nodes).system(*specs, reports=watch) as system:
        await watch.progress.has(("updates", UPDATES))
    parameters = np.concatenate(
        [
            state["points"][-1]["parameters"]
            for name, state in system.final_states.items()
            if name.startswith("server")
        ]
    )
    serial, _, clipped = plain_loop(agent, count, derive_seed(0, "coordinator"))
    assert 0 < clipped < UPDATES
    np.testing.assert_allclose(parameters, serial, rtol=0, atol=WITHIN[agent.dtype])
    assert watch.counts["gradients_accepted"] == count * UPDATES
    for index in range(count):
        ids = np.concatenate([told.ids for pile, told in heard.entries if pile == index])
        assert sorted(ids) == list(range(UPDATES * agent.batch_size)), "each has its new priority"
    assert not system.statistics().dead_letters


async def test_each_transition_gets_its_own_priority_back() -> None:
    heard, watch = Told(), Watch()
    config = GradientLearner.Config(batches_per_ask=3)
    specs = fed(1, 1, RMSPROP, 3, heard, config=config)
    async with System(specs, deterministic=True, reports=watch):
        await watch.progress.has(("updates", 3))
    online = make_parameters(RMSPROP, (4,), np.float32, 2, derive_seed(0, "coordinator"))
    rule = LearningRule(RMSPROP, online, TargetNetwork(RMSPROP, online).parameters)
    batch = batch_of(RMSPROP, 0, 1)
    _, first = heard.entries[0]
    np.testing.assert_array_equal(first.ids, batch.ids)
    np.testing.assert_array_equal(first.priorities, np.abs(rule(batch).priorities))


# With a replay in shards.


def crew(rule: str) -> list[ActorSpec]:
    """A limiter, two shards of a replay, a parameter server, two learners, three explorers."""
    replay = ("replay.0", "replay.1")
    shards = members(replay, ReplayShard, {"limiter": "limiter"}, ReplayShard.Config(capacity=500))
    pace = RateLimiterActor.Config(min_size=60, samples_per_insert=4.0)
    explorers = tuple(f"explorer.{index}" for index in range(3))
    exploring = Explorer.Config(envs=2, chunk_steps=4, epsilon=0.5)
    return [
        spec("limiter", RateLimiterActor, config=pace),
        *shards,
        *learners([replay, replay], 2, AGENT, rule=rule, publish_every_updates=4),
        *members(explorers, Explorer, {"replay": replay, "weights": "coordinator"}, exploring),
    ]


async def train(
    specs: list[ActorSpec], updates: int, states: dict[str, State] | None = None
) -> tuple[Watch, Any]:
    watch = Watch()
    system = System(specs, deterministic=True, states=states, reports=watch)
    watch.end_at("updates", updates, system.hold)
    async with system:
        await watch.progress.has(("updates", updates))
    assert not system.statistics().dead_letters
    return watch, system.final_states


@pytest.mark.parametrize("rule", ["synchronous", "asynchronous"])
async def test_they_share_a_replay_in_shards(rule: str) -> None:
    watch, states = await train(crew(rule), 60)
    each = 2 if rule == "synchronous" else 1
    assert abs(watch.counts["gradients_accepted"] - each * watch.counts["updates"]) <= 1
    shards = [states[name]["replay"] for name in ("replay.0", "replay.1")]
    for shard in shards:
        assert shard["updated"] > 0.3 * watch.counts["gradients_accepted"] * AGENT.batch_size
        assert shard["late"] == 0
    drawn = sum(shard["sampled"] for shard in shards)
    if rule == "synchronous":  # else the end may come between the two shards' parts of a batch
        assert drawn % AGENT.batch_size == 0
    told = sum(shard["updated"] for shard in shards)
    under_way = told / AGENT.batch_size - watch.counts["batches"]
    assert under_way in (0, 1, 2), "all that was learned from has a new priority"
    assert drawn - told <= 2 * 3 * 4 * AGENT.batch_size, "the rest was drawn ahead"
    assert len(watch.all_of("waiting_share")) > 4


async def test_runs_of_one_seed_are_identical() -> None:
    one, other = [await train(crew("asynchronous"), 25) for _ in range(2)]
    assert one[0].readings.entries == other[0].readings.entries
    assert_identical(one[1], other[1])


# With stand-ins for the server, which say what a test wants said.


async def test_a_batch_whose_loss_is_infinite_is_not_sent_and_changes_no_priority() -> None:
    class Extreme(Pile):
        def batch(self, number: int) -> Any:
            batch = super().batch(number)
            if number != 3:
                return batch
            return replace_fields(batch, returns=np.full_like(batch.returns, np.finfo(np.float32).max))

    heard = Told()
    pulls, pushes = Record[Pull](), Record[Push]()
    agent = replace_fields(AGENT, dqn=DQN.Config(loss="squared"))
    door = fresh(Door, pulls=pulls, pushes=pushes)
    shelf = fresh(Shelf, fetches=Record[Fetch](), gradients=Record[tuple[int, Gradient]]())
    watch = Watch()
    specs = [
        spec("pile", fresh(Extreme, agent=agent, batches=8, heard=heard)),
        *members(SHARDS, shelf),
        spec("coordinator", door),
        replace(
            spec(
                "learner",
                GradientLearner,
                {"replay": "pile", "servers": SHARDS, "coordinator": "coordinator"},
            ),
            tables={**TABLES, "agent": agent},
        ),
    ]
    async with System(specs, deterministic=True, reports=watch):
        await pushes.reaches(7)
    assert watch.counts["gradients_refused"] == 1
    assert pulls.entries[:2] == [Pull(0, computing=False), Pull(0, computing=True)]
    assert len(pulls.entries) == 3, "it takes the newest weights after that"
    ids = np.concatenate([told.ids for _, told in heard.entries])
    batch = agent.batch_size
    assert sorted(ids) == [*range(2 * batch), *range(3 * batch, 8 * batch)]
    assert {push.bytes for push in pushes.entries} == {4 * SIZE}
    assert [push.version.updates for push in pushes.entries] == list(range(7))


# Deaths.


BY_TURNS = [
    ("asyncio", "synchronous", "never"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("trio", "asynchronous", "never"),
            ("trio", "synchronous", "on-failure"),
            ("asyncio", "asynchronous", "on-failure"),
        ]
    ),
]


@pytest.mark.parametrize(("anyio_backend", "rule", "restart"), BY_TURNS)
async def test_the_death_of_one_leaves_the_others_training(
    anyio_backend: Any, rule: str, restart: Any, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with its node; started again it trains with them."""
    heard, reports = Told(), Heard()
    for name, value in {"agent": AGENT, "batches": 10**9, "heard": heard}.items():
        monkeypatch.setattr(Pile, name, value, raising=False)
    own = [spec(f"pile.{index}", Pile, index=index, count=2) for index in range(2)]
    *others, one, other = learners([("pile.0",), ("pile.1",)], 1, AGENT, rule=rule)
    specs = [
        *own,
        *others,
        replace(one, node="one"),
        replace(other, node="other", restart=restart),
        *(actor(f"on-{node}", node, board) for node in ("one", "other")),
    ]

    def hears_of(learner: int, times: int) -> Any:
        begin = len(heard.entries)
        return heard._until(lambda: sum(pile == learner for pile, _ in heard.entries[begin:]) >= times)

    async with running(anyio_backend, specs, timeout=50, reports=reports) as system:
        await hears_of(0, 20)
        await hears_of(1, 20)
        os.kill(int(await board.reads("on-other starting")), signal.SIGKILL)
        await hears_of(0, 100)
        updates = reports.counts["updates"]
        await reports.reaches("updates", updates + 50)
        if restart == "on-failure":
            await board.reads("on-other starting", 2)
            await hears_of(1, 50)
    assert not any(each.crashes for each in system.statistics().actors), "nothing but the node has ended"


# Settings.


def test_the_coordinator_knows_it_by_its_index() -> None:
    def problems(*before: str) -> list[tuple[str, str]]:
        shared = [spec("replay", ReplayShard), *learners([("replay",)] * 2, 1, AGENT)]
        others = [spec(name, Bystander, {"coordinator": "coordinator"}) for name in before]
        specs = {each.name: each for each in [*others, *shared]}
        return list(GradientLearner.wiring_problems(specs["learner.0"], specs))

    assert not problems()
    ((where, sentence),) = problems("worker")
    assert where == "ports.coordinator"
    assert "by their index: wire one actor to it, not worker, learner.0, learner.1" in sentence
