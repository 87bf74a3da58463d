"""The gradient worker: its counts, its pushes, and that it continues through failures of the server."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from actorq.actors import (
    ActorFailed,
    ActorSpec,
    Refused,
    State,
    System,
)
from actorq.envs.make import describe
from actorq.envs.task import NamedTask
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.distributed.encoded import top_k_count
from actorq.learning.networks.task_layout import TaskLayout
from actorq.roles.learner.worker import LocalReplayConfig, Worker
from actorq.roles.parameter_server.client import MOST_REFUSALS
from actorq.roles.parameter_server.coordinator import ParameterCoordinator
from actorq.roles.parameter_server.messages import (
    Fetch,
    Pull,
)
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Version
from actorq.testing import Record
from tests.actors.world import AT_ONCE, fresh
from tests.actors.world import spec as wired
from tests.roles.actors import Watch

from .server_actors import (
    AGENT,
    CHUNK,
    MIN_SIZE,
    SHARDS,
    SIZE,
    TABLES,
    DeliveryState,
    Few,
    Given,
    Scene,
    members,
    settings,
)

pytestmark = pytest.mark.anyio


def crew(config: Worker.Config, *, cls: type[Worker] = Worker, workers: int = 2) -> list[ActorSpec]:
    """A parameter server of two shards, and workers."""
    names = tuple(f"worker.{i}" for i in range(workers))
    ports = {"servers": SHARDS}
    return [
        *members(SHARDS, ParameterServer),
        wired(
            "coordinator", ParameterCoordinator, ports, ParameterCoordinator.Config(), seed=7, tables=TABLES
        ),
        *members(names, cls, {"servers": SHARDS, "coordinator": "coordinator"}, config),
    ]


async def work(
    specs: list[ActorSpec], updates: int, states: dict[str, State] | None = None
) -> tuple[Watch, dict[str, State]]:
    watch = Watch()
    async with System(specs, AT_ONCE, deterministic=True, states=states, reports=watch) as system:
        await watch.progress.has(("updates", updates))
    assert not system.statistics().dead_letters
    return watch, system.final_states


def paid_for(state: State, samples_per_insert: float) -> Any:
    """The gradients that what came after the first stretch pays for."""
    stretch = -(-MIN_SIZE // CHUNK) * CHUNK  # in CartPole a chunk may lack some, where environments reset
    return (state["inserted"] - stretch) * samples_per_insert / AGENT.batch_size


# With a parameter server.


async def test_it_draws_as_often_as_it_may() -> None:
    watch, states = await work(crew(settings()), 60)
    assert watch.counts["gradients_accepted"] == watch.counts["updates"]
    for name in ("worker.0", "worker.1"):
        state = states[name]
        assert state["batches"] >= 20
        assert 0 <= state["credit"] < 1 + CHUNK * 3.0 / AGENT.batch_size
        assert state["batches"] + state["credit"] == pytest.approx(paid_for(state, 3.0), abs=1.5)
    assert watch.counts["env_steps"] >= sum(states[name]["inserted"] for name in ("worker.0", "worker.1"))
    assert watch.counts["episodes"] > 0
    assert len(watch.all_of("loss")) == states["worker.0"]["batches"] + states["worker.1"]["batches"]


async def test_left_out_each_chunk_pays_for_one_batch() -> None:
    memory = LocalReplayConfig(min_size=MIN_SIZE, sampling="uniform")
    _, states = await work(crew(settings(replay=memory), workers=1), 30)
    state = states["worker.0"]
    chunks = (state["inserted"] - MIN_SIZE) / CHUNK
    assert chunks - 4 <= state["batches"] <= chunks + 6


async def test_priorities_go_to_its_own_replay() -> None:
    memory = LocalReplayConfig(min_size=MIN_SIZE, samples_per_insert=3.0)
    _, states = await work(crew(settings(replay=memory), workers=1), 20)
    replay = states["worker.0"]["replay"]
    assert replay["updated"] == replay["sampled"] == states["worker.0"]["batches"] * AGENT.batch_size
    assert replay["late"] == 0


@pytest.mark.parametrize(("codec", "share"), [("int8", 0.01), ("bfloat16", 0.01), ("top_k", 0.1)])
async def test_gradients_are_sent_by_codec(codec: str, share: float) -> None:
    watch, _ = await work(crew(settings(gradient_codec=codec, top_k_share=share), workers=1), 10)
    half = SIZE // 2
    exact = {"int8": half + 4, "bfloat16": 2 * half, "top_k": 8 * top_k_count(half, share)}
    assert set(watch.all_of("bytes_in_per_update")) == {2 * exact[codec]}


async def test_continues_from_its_state() -> None:
    config = settings(gradient_codec="top_k", outlier_deviations=6.0)
    _, states = await work(crew(config), 30)
    watch, again = await work(crew(config), 10, states)
    before, after = states["worker.0"], again["worker.0"]
    assert before["outliers"]["count"] == before["batches"]
    assert before["slices"]["kept_back"][0]["residual"].any()
    assert after["inserted"] - before["inserted"] < MIN_SIZE, "it has what it needs"
    assert after["batches"] > before["batches"]
    assert after["outliers"]["count"] == after["batches"]
    assert watch.counts["env_steps"] < 2 * MIN_SIZE + 10 * CHUNK


async def test_runs_of_one_seed_are_identical() -> None:
    from tests.roles.test_deterministic import assert_identical

    one, other = [await work(crew(settings()), 25) for _ in range(2)]
    assert one[0].readings.entries == other[0].readings.entries
    assert_identical(one[1], other[1])


# With stand-ins for the server, which say what a test wants said.


async def test_identifies_the_worker_and_numbers_its_gradients() -> None:
    scene = Scene(Worker)
    await scene.play(5)
    assert scene.pulls.entries == [Pull(0, computing=False), Pull(0, computing=True)]
    tickets = [
        (push.ticket.worker, push.ticket.incarnation, push.ticket.number) for push in scene.pushes.entries
    ]
    assert tickets == [(0, 0, number) for number in range(1, len(tickets) + 1)]
    for push in scene.pushes.entries:
        slices = [each for _, each in scene.gradients.entries if each.ticket == push.ticket]
        assert {each.version for each in slices} == {push.version}
        assert push.bytes == sum(each.slice.nbytes for each in slices) == 4 * SIZE


async def test_the_named_version_is_the_one_it_computes_with() -> None:
    scene = Scene()
    await scene.play(5)
    assert [push.version.updates for push in scene.pushes.entries[:5]] == [0, 1, 2, 3, 4]
    asked = [fetch.version.updates for fetch in scene.fetches.entries]
    assert asked[:6] == [0, 0, 1, 1, 2, 2], "once from each shard, and not again for the second pull"
    # Both times the stand-in sends the target too.
    assert {push.bytes_fetched for push in scene.pushes.entries} == {2 * 4 * SIZE}


async def test_continues_after_a_refusal_and_logs_the_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(delivery_state=lambda number: "refused" if number in (2, 3, 5) else "accepted")
    with caplog.at_level(logging.WARNING, "actorq.roles"):
        await scene.play(8)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == "a gradient of worker.0 was refused: it smells of NaN"
    assert len(scene.pulls.entries) == 2 + 3
    assert all(pull.computing for pull in scene.pulls.entries[1:])
    assert "gradients_refused" not in scene.watch.counts, "the coordinator counts those that were sent"


@pytest.mark.parametrize("delivery_state", ["refused", "late", "stale"])
async def test_what_was_not_applied_is_given_back(delivery_state: DeliveryState) -> None:
    """What the codec keeps back is all gradients but for what was accepted."""
    done = Record[int]()
    few = fresh(Few, done=done)
    whole, made = Scene(few), Few.gradients
    await whole.play(done)
    (gradient,) = {each.values.tobytes() for each in whole.slices(0).values()}
    config = settings(gradient_codec="top_k", top_k_share=0.1)
    scene = Scene(
        few, config, delivery_state=lambda number: delivery_state if number % 3 == 0 else "accepted"
    )
    done.entries.clear()
    state = await scene.play(done)
    applied = np.zeros(SIZE // 2, np.float32)
    for number, slice in scene.slices(0).items():
        if number % 3:
            applied[slice.extra] += slice.values
    kept_back = state["slices"]["kept_back"][0]["residual"]
    assert kept_back.any()
    expected = made * np.frombuffer(gradient, np.float32) - applied
    np.testing.assert_allclose(kept_back, expected, atol=1e-5)


async def test_gives_up_when_nothing_helps() -> None:
    scene = Scene(delivery_state=lambda number: "refused")
    with pytest.raises(ActorFailed) as failed:
        await scene.play(1000)
    cause = failed.value.__cause__
    assert isinstance(cause, RuntimeError)
    assert f"{MOST_REFUSALS} gradients were refused one after the other, the last since it smells" in str(
        cause
    )
    assert len(scene.pushes.entries) == 4 * MOST_REFUSALS, "in each of its lives"


async def test_what_is_explored_in_vain_is_no_progress() -> None:
    """Else the restart limit would never be reached, and the run never end."""
    scene = Scene(Worker, delivery_state=lambda number: "refused")
    with pytest.raises(ActorFailed):
        await scene.play(1000)
    assert scene.watch.counts["env_steps"] <= MIN_SIZE + 4 * CHUNK


async def test_a_batch_whose_loss_is_infinite_is_not_sent() -> None:
    agent = replace_fields(AGENT, dqn=DQN.Config(loss="squared"))
    largest = float(np.finfo(np.float32).max)
    scene = Scene(fresh(Given, returns=lambda number: largest if number == 3 else 1.0))
    scene.specs = [replace(each, tables={**TABLES, "agent": agent}) for each in scene.specs]
    await scene.play(5)
    assert scene.watch.counts["gradients_refused"] == 1
    assert all(np.isfinite(each.slice.values).all() for _, each in scene.gradients.entries)
    assert len(scene.pulls.entries) == 3


async def test_an_outlier_is_counted_and_not_sent() -> None:
    def returns(number: int) -> float:
        return 1e4 if number == 120 else 1.0 + 0.1 * math.sin(number)

    scene = Scene(fresh(Given, returns=returns), settings(outlier_deviations=4.0))
    await scene.play(130)
    assert scene.watch.counts["gradients_outlying"] == 1
    assert max(scene.watch.all_of("loss")) > 1e3
    made = {len(scene.watch.all_of("loss")) - 1, len(scene.watch.all_of("loss")) - 2}
    assert len(scene.pushes.entries) in made


async def test_a_version_that_is_gone_is_pulled_again() -> None:
    def answer(request: Fetch, fetches: int) -> None:
        if fetches in (6, 8):
            raise Refused("version kept no longer; pull again")

    scene = Scene(answer=answer)
    await scene.play(6)
    assert len(scene.pulls.entries) == 4
    assert [push.version.updates for push in scene.pushes.entries[:6]] == [0, 1, 2, 3, 4, 5]


async def test_a_front_that_dies_costs_one_gradient_and_brings_whole_weights() -> None:
    scene = Scene(delivery_state=lambda number: "crash" if number == 3 else "accepted")
    scene.specs[3] = replace(scene.specs[3], config=settings(gradient_codec="top_k"))
    await scene.play(6)
    versions = [push.version for push in scene.pushes.entries[:6]]
    assert versions == [
        Version(1, 0),
        Version(1, 1),
        Version(1, 2),
        Version(2, 3),
        Version(2, 4),
        Version(2, 5),
    ]
    haves = {fetch.version: fetch.have for fetch in scene.fetches.entries}
    assert haves[Version(2, 3)] is None
    assert haves[Version(2, 4)] == Version(2, 3)


async def test_nothing_is_left_of_gradients_of_an_earlier_incarnation() -> None:
    """The first gradient after it is what the first ever was."""
    scene = Scene(delivery_state=lambda number: "crash" if number == 3 else "accepted")
    scene.specs[3] = replace(scene.specs[3], config=settings(gradient_codec="top_k", top_k_share=0.1))
    await scene.play(6)
    first, second, fourth = (scene.slices(0)[number] for number in (1, 2, 4))
    np.testing.assert_array_equal(fourth.values, first.values)
    assert not np.array_equal(second.values, first.values)


# Settings.


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        (settings(replay=LocalReplayConfig(min_size=50, capacity=40)), "min_size", "never begin"),
        (settings(replay=LocalReplayConfig(error_buffer_samples=9.0)), "error_buffer_samples", "exactly"),
        (settings(replay=LocalReplayConfig(capacity=7, min_size=5)), "capacity", "one chunk, envs .* = 8"),
    ],
)
def test_settings_that_contradict_each_other_are_named(config: Worker.Config, field: str, says: str) -> None:
    ((where, sentence),) = Worker.problems(config, TABLES)
    assert where == f"config.replay.{field}"
    assert re.search(says, sentence)


def test_few_samples_per_insert_are_fine() -> None:
    """A rate limiter could not keep to so few; books can."""
    memory = LocalReplayConfig(min_size=20, samples_per_insert=0.01)
    assert not list(Worker.problems(settings(replay=memory), TABLES))


async def test_each_worker_teaches_its_own_task() -> None:
    tasks = (NamedTask(env="CartPole-v1", name="poles"), NamedTask(env="Acrobot-v1", name="arms"))
    agent = replace_fields(AGENT, hidden=(8, 8))
    tables = {"tasks": tasks, "agent": agent}
    specs = [replace(each, tables=tables) for each in crew(settings())]
    _, states = await work(specs, 6)
    learned = np.concatenate([states[name]["points"][-1]["parameters"] for name in SHARDS])
    _, beginning = await work(specs, 1)
    before = np.concatenate([beginning[name]["points"][-1]["parameters"] for name in SHARDS])
    spaces = [describe(task) for task in tasks]
    layout = TaskLayout(agent, spaces)
    for part in (*layout.encoders, *layout.heads, layout.trunk):
        assert not np.array_equal(learned[part], before[part])
    assert [states[f"worker.{i}"]["replay"]["store"]["frames"].shape[1] for i in range(2)] == [4, 6]
