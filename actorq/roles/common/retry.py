"""Asking actors that may die meanwhile: their next lives are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from actorq.actors import ActorDied

R = TypeVar("R")

PAUSE_SECONDS = (0.0, 0.1, 1.0)
"""Before the next life is asked, by how many have died over it; the last of them from then on."""


async def ask_its_incarnations(
    ask: Callable[[], Awaitable[R]], sleep: Callable[[float], Awaitable[None]]
) -> R:
    """The answer of the life that gives one. An actor past its restart limit ends the run.

    Only for what may be done twice. Raises and is cancelled as `ask` is.
    """
    deaths = 0
    while True:
        try:
            return await ask()
        except ActorDied:
            await sleep(PAUSE_SECONDS[min(deaths, len(PAUSE_SECONDS) - 1)])
            deaths += 1
