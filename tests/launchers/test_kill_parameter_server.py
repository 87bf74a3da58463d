"""Parameter server on nodes that are killed: it continues from a recovery point, and all shards agree."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from actorq.actors import ActorSpec
from actorq.envs.grid import Grid
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_parameters
from actorq.replay.chunk import Batch
from actorq.roles.learner.worker import LocalReplayConfig, Worker
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Weights
from actorq.testing import Record
from tests.roles.actors import WeightsRecorder
from tests.roles.topologies import Diligent, Level, crew

from .actors import Board
from .nodes import actor, board, running

__all__ = ["board"]

APART = {
    "server.0": "shard0",
    "server.1": "shard1",
    "coordinator": "coordinator",
    "worker.0": "worker0",
    "worker.1": "worker1",
}
RESTORE_WITHIN = 20
RULES: Mapping[str, Mapping[str, Any]] = {
    "asynchronous": {},
    "synchronous": {"rule": "synchronous"},
    "bounded": {"rule": "bounded", "max_staleness": 2},
    "softsync": {"rule": "softsync", "softsync_n": 1},
}
BY_TURNS = list(zip(["asyncio", "trio"] * 2, RULES, strict=True))
LEVEL = Agent(hidden=(8,), batch_size=1, optimizer="rmsprop", target_every_updates=7)
LEARNER = Agent(hidden=(32,), batch_size=64, n_step=1, gamma=0.9, learning_rate=3e-3, target_every_updates=50)
MAZE = Task(env="actorq/GridWorld-v0", options={"map": "S.#.\n...P\n.#.G", "start": "any"})


class Monotonous(Diligent):
    """Pushes gradients whose entries are equal: where all parameters began equal, so they stay."""

    async def _learn_from(self, batch: Batch) -> None:
        self._method.online.gradient.fill_(float(batch.returns[0]))
        await self._method.push(loss=0.0)
        self.progress("pushes")


class Fire:
    """A server of two shards and two workers, each on its node, or on main; and who kills the nodes."""

    def __init__(self, board: Board, nodes: Mapping[str, str]) -> None:
        self.board, self.nodes = board, nodes
        self.incarnations = dict.fromkeys((node for node in nodes.values() if node != "main"), 1)
        self.seen = Record[Weights]()

    def specs(self, worker: type[Worker], agent: Agent, **given: Any) -> list[ActorSpec]:
        kept = ParameterServer.Config(restore_within_updates=RESTORE_WITHIN)
        made = crew(worker, 2, 2, agent, shard_config=kept, publish_every_updates=1, **given)
        recorder = ActorSpec(
            name="recorder",
            cls=WeightsRecorder,
            config=WeightsRecorder.Config(),
            ports={"weights": ("coordinator",)},
        )
        return [
            *(replace(each, node=self.nodes[each.name]) for each in made),
            *(actor(f"on-{node}", node, self.board) for node in self.incarnations),
            recorder,
        ]

    async def kill(self, node: str) -> None:
        """As soon as the node lives."""
        pid = int(await self.board.reads(f"on-{node} starting", self.incarnations[node]))
        self.incarnations[node] += 1
        os.kill(pid, signal.SIGKILL)

    async def goes_on(self, updates: int = RESTORE_WITHIN) -> None:
        """Return when so many updates more were made, in one incarnation."""
        begin = len(self.seen.entries)

        def done() -> bool:
            first: dict[int, int] = {}
            return any(
                each.version.updates
                >= first.setdefault(each.version.incarnation, each.version.updates) + updates
                for each in self.seen.entries[begin:]
            )

        await self.seen._until(done)

    def lost(self, caplog: pytest.LogCaptureFixture) -> list[int]:
        """How many updates at each restoration: as a reader sees it, and as the server says.

        Also checks that within an incarnation versions only rise.
        """
        lost = []
        for one, other in pairwise(each.version for each in self.seen.entries):
            if one.incarnation == other.incarnation:
                assert other.updates > one.updates
            else:
                assert other.incarnation > one.incarnation
                lost.append(one.updates - other.updates)
        return lost + [int(said) for said in re.findall(r"(\d+) updates are lost", caplog.text)]


def is_level(weights: Weights) -> bool:
    """Whether all slices are of one version."""
    return bool(weights.parameters.min() == weights.parameters.max())


@pytest.mark.parametrize(
    ("anyio_backend", "rule"),
    [("asyncio", "synchronous"), pytest.param("trio", "asynchronous", marks=pytest.mark.slow)],
)
@pytest.mark.timeout(240)
@pytest.mark.anyio
async def test_one_kill_of_each(
    anyio_backend: Any,
    rule: str,
    board: Board,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fire = Fire(board, {**APART, "server.1": "main", "worker.1": "main"})
    monkeypatch.setattr(WeightsRecorder, "record", fire.seen, raising=False)
    async with running(
        anyio_backend, fire.specs(Monotonous, LEVEL, coordinator=Level, **RULES[rule]), timeout=220
    ):
        await fire.goes_on()
        for node in ("worker0", "shard0", "coordinator"):
            before = fire.seen.entries[-1].version.incarnation
            await fire.kill(node)
            await fire.goes_on()
            assert (fire.seen.entries[-1].version.incarnation > before) == (node != "worker0")
    assert max(fire.lost(caplog)) <= RESTORE_WITHIN
    assert all(map(is_level, fire.seen.entries))


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("anyio_backend", "rule"), BY_TURNS)
@pytest.mark.anyio
async def test_thirty_kills(
    anyio_backend: Any,
    rule: str,
    board: Board,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of whichever node, whenever it lives; now and then two at once, or one that has just come back."""
    chance = random.Random(f"{anyio_backend} {rule}")
    fire = Fire(board, APART)
    monkeypatch.setattr(WeightsRecorder, "record", fire.seen, raising=False)
    specs = fire.specs(Monotonous, LEVEL, coordinator=Level, **RULES[rule])
    async with running(anyio_backend, specs, timeout=480):
        await fire.goes_on()
        killed: list[str] = []
        while len(killed) < 30:
            # None that never lives for half a second: a node like that is given up after three times.
            choice = [node for node in fire.incarnations if killed[-6:].count(node) < 2]
            for node in chance.sample(choice, chance.choice([1, 1, 2])):
                await fire.kill(node)
                killed.append(node)
            await fire.goes_on(chance.randrange(1, 3 * RESTORE_WITHIN))
    lost = fire.lost(caplog)
    assert len(lost) > 10
    assert max(lost) <= RESTORE_WITHIN, sorted(lost)
    assert all(map(is_level, fire.seen.entries))
    print(
        f"{anyio_backend} {rule}: lost at most {max(lost)} of {RESTORE_WITHIN}, {len(fire.seen.entries)} read"
    )


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("anyio_backend", "rule"), BY_TURNS)
@pytest.mark.anyio
async def test_it_learns_under_fire(
    anyio_backend: Any, rule: str, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greedy policy becomes the best there is, from every cell."""
    chance = random.Random(f"{anyio_backend} {rule}")
    fire = Fire(board, APART)
    monkeypatch.setattr(WeightsRecorder, "record", fire.seen, raising=False)
    memory = LocalReplayConfig(min_size=200, sampling="uniform", samples_per_insert=8.0)
    config = Worker.Config(envs=8, chunk_steps=4, epsilon=1.0, replay=memory)
    specs = fire.specs(Worker, LEARNER, task=MAZE, worker_config=config, **RULES[rule])
    async with running(anyio_backend, specs, timeout=480):
        for _ in range(8):
            await fire.goes_on()
            await fire.kill(chance.choice(list(fire.incarnations)))
        await fire.goes_on()
        await fire.seen._until(lambda: is_solved(fire.seen.entries[-1]))


def is_solved(weights: Weights) -> bool:
    grid = Grid(**MAZE.options)
    network = make_parameters(LEARNER, (grid.count,), np.float32, 4, 0)
    network.write(weights.parameters)
    with torch.no_grad():
        actions = network.module(torch.eye(grid.count)).argmax(1).numpy()
    values = grid.value_iteration(LEARNER.gamma)
    chosen = values[np.arange(grid.count), actions]
    reachable = grid.reachable if grid.reachable.ndim == 1 else grid.reachable.any(1)
    return bool((chosen >= values.max(1) - 1e-6)[reachable].all())
