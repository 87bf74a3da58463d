"""A learner's updates a second while eight explorers insert, against rule and optimizer on one ready batch.

`python -m tests.bench.fed_learner`. The learner has a core of its own, explorers and shards share the others,
at the pace of a rate limiter; the ratio is the median of rounds in which both sides take turns.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from actorq.actors import ActorSpec
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.replay.chunk import Batch
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.rate_limiter import RateLimiterActor
from actorq.roles.replay.shard import ReplayShard

from ._reading import Counting
from .prioritized_replay import CAPACITY, ROUNDS, SECONDS, per_second, report
from .processes import processes

EXPLORERS, EXPLORER_NODES = 8, 2
CASES = {
    "CartPole, a small MLP, batches of 128": (
        Task(env="CartPole-v1"),
        Agent(hidden=(128, 128), n_step=3, batch_size=128, max_gradient_norm=10.0),
    ),
    "Breakout's frames, Nature's network, batches of 32": (
        Task(env="ALE/Breakout-v5", frame_stack=4, reward_clip=1.0),
        Agent(network="nature_cnn", n_step=3, batch_size=32, max_gradient_norm=10.0),
    ),
}


def topology(task: Task, agent: Agent) -> list[ActorSpec]:
    """Ape-X: two shards in a process, the explorers in two more, the learner here."""
    tables = {"task": task, "agent": agent}
    shards = ("replay.0", "replay.1")
    held = ReplayShard.Config(capacity=CAPACITY // 2)
    shard = ActorSpec(
        name="replay", cls=ReplayShard, config=held, node="replay", count=2, ports={"limiter": ("limiter",)}
    )
    explores = Explorer.Config(envs=4, chunk_steps=16)
    ports = {"replay": shards, "weights": ("learner",)}
    explorer = ActorSpec(
        name="explorer", cls=Explorer, config=explores, count=EXPLORERS, tables=tables, ports=ports
    )
    learns = Learner.Config(torch_threads=1)
    pace = RateLimiterActor.Config(min_size=2_000, samples_per_insert=32.0)
    return [
        ActorSpec(name="limiter", cls=RateLimiterActor, config=pace, node="replay"),
        *(replace(shard, name=name, index=index, seed=index) for index, name in enumerate(shards)),
        ActorSpec(name="learner", cls=Counting, config=learns, tables=tables, ports={"replay": shards}),
        *(
            replace(explorer, name=f"explorer.{i}", index=i, seed=i, node=f"explorers.{i % EXPLORER_NODES}")
            for i in range(EXPLORERS)
        ),
    ]


@contextmanager
def confined(cores: set[int]) -> Iterator[None]:
    """Every thread of this process stays on these cores, and so does whatever it starts."""
    before = os.sched_getaffinity(0)
    _confine(cores)
    try:
        yield
    finally:
        _confine(before)


def _confine(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def cores() -> tuple[set[int], set[int]]:
    """One for the learner, and the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@asynccontextmanager
async def apart(specs: list[ActorSpec]) -> AsyncIterator[None]:
    """The actors of other nodes on the other cores, this process on its own."""
    mine, others = cores()
    with confined(others):
        async with processes("asyncio", specs):
            with confined(mine):
                yield


async def fed(task: Task, agent: Agent) -> float:
    """Updates a second of the learner, once its replay has been filled."""
    Counting.begin()
    async with apart(topology(task, agent)):
        await Counting.warm.wait()
        before, began = Counting.made, time.perf_counter()
        await anyio.sleep(2 * SECONDS)
        return (Counting.made - before) / (time.perf_counter() - began)


def bare(task: Task, agent: Agent) -> float:
    """Updates a second of rule, optimizer and target network."""
    from actorq.envs.make import describe
    from actorq.learning.networks.factory import make_parameters
    from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
    from actorq.learning.target import TargetNetwork
    from actorq.learning.update import LearningRule

    spaces = describe(task)
    online = make_parameters(agent, spaces.observation_shape, spaces.dtype, spaces.actions, 0)
    target = TargetNetwork(agent, online)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    rule = LearningRule(agent, online, target.parameters)
    batch = ready_batch(spaces.observation_shape, spaces.dtype, spaces.actions, agent.batch_size)
    updates = 0

    def update() -> None:
        nonlocal updates
        learned = rule(batch)
        clip_gradient_norm(online.gradient, agent.max_gradient_norm or 10.0)
        optimizer.step()
        updates += 1
        target.follow(updates)
        np.abs(learned.priorities)

    with confined(cores()[0]):
        update()
        return per_second(update, 1)


def ready_batch(shape: tuple[int, ...], dtype: Any, actions: int, count: int) -> Batch:
    rng = np.random.default_rng(0)
    observations = (100 * rng.random((2, count, *shape))).astype(dtype)
    return Batch(
        ids=np.arange(count),
        observations=observations[0],
        actions=rng.integers(0, actions, count),
        returns=rng.random(count, dtype=np.float32),
        discounts=np.full(count, 0.97, np.float32),
        next_observations=observations[1],
        weights=np.ones(count, np.float32),
        probabilities=np.full(count, 1e-4),
    )


def main() -> None:
    import torch

    torch.set_num_threads(1)
    for name, (task, agent) in CASES.items():
        ratios = []
        for _ in range(ROUNDS):
            ours, theirs = anyio.run(fed, task, agent), bare(task, agent)
            ratios.append(ours / theirs)
            print(
                f"  {ours:.0f} updates/s while {EXPLORERS} insert, {theirs:.0f} on a ready batch", flush=True
            )
        report(f"a learner that is fed against one on a ready batch ({name})", ratios, ">= 0.9")


if __name__ == "__main__":
    main()
