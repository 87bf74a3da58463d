"""Actors that can be imported, for the tests of processes."""

from __future__ import annotations

from collections.abc import Callable

from actorq.actors import Actor, Config


class Quiet(Actor):
    class Config(Config, kw_only=True):
        level: int = 0


class Calling(Actor):
    class Config(Config, kw_only=True):
        call: Callable[[], object]
