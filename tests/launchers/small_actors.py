"""Actors that can be imported, for the tests of processes."""

from __future__ import annotations

from collections.abc import Callable

import actorq.actors as actors
from actorq.actors import Actor


class Quiet(Actor):
    class Config(actors.Config, kw_only=True):
        level: int = 0


class Calling(Actor):
    class Config(actors.Config, kw_only=True):
        call: Callable[[], object]
