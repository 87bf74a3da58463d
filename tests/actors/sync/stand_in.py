"""Replacement of an actor for the primitives under test, on the test's event loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal, cast

import anyio
from anyio.abc import TaskGroup

from actorq.actors import Actor

Backend = Literal["asyncio", "trio"]


def actor_in(tasks: TaskGroup) -> Actor:
    """A stand-in whose tasks run in `tasks`."""
    stand_in = SimpleNamespace(
        now=anyio.current_time, event=anyio.Event, sleep=anyio.sleep, start_soon=tasks.start_soon
    )
    return cast(Actor, stand_in)
