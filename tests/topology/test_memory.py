"""Memory estimates of a topology, by its roles, once for all members of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import actorq
from actorq.actors import Actor, ActorSpec
from actorq.topology import Need, check, memory_needs


class Pantry(Actor):
    class Config(actorq.Config):
        jars: int = 10

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        jars: Any = spec.config
        yield f"{jars.jars} jars", 1000 * jars.jars
        yield f"a list of {len(specs)} actors", 8 * len(specs)


class Cook(Actor):
    pass


def test_each_declared_actor_tells_what_its_members_hold() -> None:
    actors = {
        "pantry": {"role": Pantry, "count": 2, "config": {"jars": 3}},
        "cook": {"role": Cook},
        "cellar": {"role": Pantry},
    }
    assert list(memory_needs(check({"name": "kitchen", "actors": actors}))) == [
        Need("pantry", 2, "3 jars", 3000),
        Need("pantry", 2, "a list of 4 actors", 32),
        Need("cellar", 1, "10 jars", 10_000),
        Need("cellar", 1, "a list of 4 actors", 32),
    ]
