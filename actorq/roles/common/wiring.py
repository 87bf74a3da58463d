"""Checks of ports that several roles have: the shards of a replay, and weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from actorq.actors import ActorSpec, SettingProblem
from actorq.envs.task import task_names, tasks_in


def shard_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[SettingProblem]:
    """Problems if the shards on the port `replay` can't be divided among the tasks, or actors divide them
    differently.
    """
    tasks, shards = len(tasks_in(spec.tables)), spec.ports["replay"]
    if tasks and len(shards) % tasks:
        yield (
            "ports.replay",
            f"{len(shards)} in all, but each of the {tasks} tasks has shards of its own, equally many: a"
            f" count of {tasks}, or {2 * tasks}, …",
        )
        return
    names, mine = task_names(tasks_in(spec.tables)), _tasks_of(spec)
    for other in specs.values():
        for shard, task in _tasks_of(other).items():
            if mine.get(shard, task) != task:
                yield (
                    "ports.replay",
                    f"{shard} holds {names[mine[shard]]} by this order, and {names[task]} by that of"
                    f" {other.name}: wire both to the same shards in the same order",
                )
                return


def _tasks_of(spec: ActorSpec) -> dict[str, int]:
    """Each shard's task, as this actor divides them; empty if it isn't wired to them."""
    tasks, shards = len(tasks_in(spec.tables)), spec.ports.get("replay", ())
    if not tasks or len(shards) % tasks:
        return {}
    block = len(shards) // tasks
    return {shard: place // block for place, shard in enumerate(shards)} if tasks > 1 else {}


def weights_problems(spec: ActorSpec) -> Iterator[SettingProblem]:
    """Problem with several publishers: each has parameters of its own, and the newest could be those of
    any.
    """
    publishers = spec.ports.get("weights", ())
    if len(publishers) > 1:
        yield (
            "ports.weights",
            f"{', '.join(publishers[:2])}{', …' if len(publishers) > 2 else ''} have parameters of their own,"
            " and it can use those of one: synchronize the learners at a root, and subscribe to that",
        )
