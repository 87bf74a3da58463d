"""Memory estimate of a topology's replay, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from statistics import fmean

from actorq.actors import ActorSpec
from actorq.envs.task import task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.replay.config import ReplayConfig
from actorq.replay.sizing import ChunkShape, bytes_beside_redis, bytes_in_memory, bytes_in_redis

from .rollout import ExplorationConfig


def explorers_of(replay: str, specs: Iterable[ActorSpec]) -> Iterator[ActorSpec]:
    """The explorers that insert into `replay`; the first of each group."""
    for spec in specs:
        wired = any(replay in targets for targets in spec.ports.values())
        if wired and spec.index == 0 and isinstance(spec.config, ExplorationConfig):
            yield spec


def replay_memory(
    replay: ReplayConfig, explorers: Iterable[ActorSpec], *, in_redis: bool = False
) -> Iterator[tuple[str, int]]:
    """(description, bytes) of a full replay that these explorers fill; nothing if there are none.

    With several tasks, each of which has as many replays, it is their mean.
    """
    tasks: dict[str, list[ChunkShape]] = {}
    for explorer in explorers:
        for task, chunk in _chunks_of(explorer):
            tasks.setdefault(task, []).append(chunk)
    if not tasks:
        return
    prioritized, capacity = replay.sampling == "prioritized", replay.capacity

    def need(what: str, each: float, where: str = "") -> tuple[str, int]:
        return f"{capacity:,} {what} of {each:,.0f} bytes{where}", round(capacity * each)

    def transitions(size: Callable[[ChunkShape], float], where: str = "") -> tuple[str, int]:
        each = fmean(max(map(size, chunks)) for chunks in tasks.values())
        return need("transitions", each, where if len(tasks) == 1 else f"{where}, tasks on average")

    if in_redis:
        yield transitions(bytes_in_redis, " in Redis")
        yield need("priorities and places", bytes_beside_redis(prioritized=prioritized))
    else:
        yield transitions(partial(bytes_in_memory, prioritized=prioritized))


def _chunks_of(explorer: ActorSpec) -> Iterator[tuple[str, ChunkShape]]:
    """The chunk's shape for each task that it and its group may explore, by name."""
    from actorq.envs.make import describe

    agent, config, tasks = explorer.tables["agent"], explorer.config, tasks_in(explorer.tables)
    assert isinstance(agent, Agent)
    assert isinstance(config, ExplorationConfig)
    for name, task in zip(task_names(tasks), tasks, strict=True):
        if config.task in (None, name):
            spaces = describe(task)
            chunk = ChunkShape(
                frame_bytes=spaces.dtype.itemsize * math.prod(spaces.frame_shape),
                stack=task.frame_stack,
                n_step=agent.n_step,
                steps=config.chunk_steps,
                environments=config.envs,
            )
            yield name, chunk
