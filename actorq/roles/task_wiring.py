"""Whether what is wired suits several tasks."""

from __future__ import annotations

from collections.abc import Iterator

from actorq.actors import ActorSpec
from actorq.envs.task import tasks_in


def shard_faults(spec: ActorSpec) -> Iterator[tuple[str, str]]:
    """Whether the shards on the port `replay` can be dealt to the tasks in blocks of one size."""
    tasks, shards = len(tasks_in(spec.tables)), len(spec.ports["replay"])
    if tasks and shards % tasks:
        yield (
            "ports.replay",
            f"{shards} in all, but each of the {tasks} tasks has shards of its own, equally many: a count of"
            f" {tasks}, or {2 * tasks}, …",
        )
