"""What the replay of a topology will take in memory, told before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from actorq.actors import ActorSpec
from actorq.dqn.agent import Agent
from actorq.envs.task import task_names, tasks_in
from actorq.replay.config import ReplayConfig
from actorq.replay.sizing import ChunkShape, bytes_beside_redis, bytes_in_memory, bytes_in_redis

from .exploring import ExplorationConfig


def explorers_of(replay: str, specs: Iterable[ActorSpec]) -> Iterator[ActorSpec]:
    """Those who put experience into `replay`; the first of each group."""
    for spec in specs:
        wired = any(replay in targets for targets in spec.ports.values())
        if wired and spec.index == 0 and isinstance(spec.config, ExplorationConfig):
            yield spec


def replay_memory(
    replay: ReplayConfig, explorers: Iterable[ActorSpec], *, in_redis: bool = False
) -> Iterator[tuple[str, int]]:
    """(what, bytes) of a full replay that these explorers fill; nothing where there are none to tell by."""
    chunks = [chunk for explorer in explorers for chunk in _chunks_of(explorer)]
    if not chunks:
        return
    prioritized, capacity = replay.sampling == "prioritized", replay.capacity

    def need(what: str, each: float, where: str = "") -> tuple[str, int]:
        return f"{capacity:,} {what} of {each:,.0f} bytes{where}", round(capacity * each)

    if in_redis:
        yield need("transitions", max(bytes_in_redis(chunk) for chunk in chunks), " in Redis")
        yield need("priorities and places", bytes_beside_redis(prioritized=prioritized))
    else:
        yield need("transitions", max(bytes_in_memory(chunk, prioritized=prioritized) for chunk in chunks))


def _chunks_of(explorer: ActorSpec) -> Iterator[ChunkShape]:
    """Of each task that it and its group may explore."""
    from actorq.envs.make import describe

    agent, config, tasks = explorer.tables["agent"], explorer.config, tasks_in(explorer.tables)
    assert isinstance(agent, Agent)
    assert isinstance(config, ExplorationConfig)
    for name, task in zip(task_names(tasks), tasks, strict=True):
        if config.task in (None, name):
            spaces = describe(task)
            yield ChunkShape(
                frame_bytes=spaces.dtype.itemsize * math.prod(spaces.frame_shape),
                stack=task.frame_stack,
                n_step=agent.n_step,
                steps=config.chunk_steps,
                environments=config.envs,
            )
