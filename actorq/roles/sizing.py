"""What the replay of a topology will take in memory, told before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actorq.actors import ActorSpec
from actorq.dqn.agent import Agent
from actorq.envs.task import Task
from actorq.replay.config import ReplayConfig
from actorq.replay.sizing import TransitionBytes, transition_bytes

from .exploring import ExplorationConfig


def explorers_of(replay: str, specs: Iterable[ActorSpec]) -> Iterator[ActorSpec]:
    """Those who put experience into `replay`; the first of each group."""
    for spec in specs:
        wired = any(replay in targets for targets in spec.ports.values())
        if wired and spec.index == 0 and isinstance(spec.config, ExplorationConfig):
            yield spec


def replay_memory(replay: ReplayConfig, explorers: Iterable[ActorSpec]) -> Iterator[tuple[str, int]]:
    """(what, bytes) of a full replay that these explorers fill; nothing where there are none to tell by."""
    sizes = [_transition(replay, explorer) for explorer in explorers]
    if sizes:
        largest = max(size.total for size in sizes)
        yield f"{replay.capacity:,} transitions of {largest:,.0f} bytes", round(replay.capacity * largest)


def _transition(replay: ReplayConfig, explorer: ActorSpec) -> TransitionBytes:
    from actorq.envs.make import describe

    task, agent, config = explorer.tables["task"], explorer.tables["agent"], explorer.config
    assert isinstance(task, Task)
    assert isinstance(agent, Agent)
    assert isinstance(config, ExplorationConfig)
    spaces = describe(task)
    frame_bytes = spaces.dtype.itemsize
    for side in spaces.frame_shape:
        frame_bytes *= side
    return transition_bytes(
        frame_bytes,
        stack=task.frame_stack,
        n_step=agent.n_step,
        chunk_steps=config.chunk_steps,
        prioritized=replay.sampling == "prioritized",
    )
