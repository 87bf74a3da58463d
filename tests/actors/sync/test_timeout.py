"""Timeout: called once a condition has held long enough, against a plain simulation."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.sync import Timeout
from actorq.testing import run_virtually
from tests.actors.sync.stand_in import Backend, actor_in

Changes = list[tuple[int, bool]]
"""Seconds since the change before, and whether the condition holds."""


async def expiries(changes: Changes, seconds: float | None) -> list[float]:
    found: list[float] = []
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        timeout = Timeout(actor_in(tasks), seconds, lambda: found.append(anyio.current_time() - began))
        tasks.start_soon(timeout.run)
        for gap, holds in changes:
            await anyio.sleep(gap)
            timeout.follow(holds)
        await anyio.sleep(100)
        tasks.cancel_scope.cancel()
    return found


def naive(changes: Changes, seconds: float) -> list[float]:
    found, since, now = list[float](), None, 0.0
    for gap, holds in [*changes, (100, False)]:
        now += gap
        if since is not None and since + seconds < now:
            found.append(since + seconds)
            since = None
        if not holds:
            since = None
        elif since is None:
            since = now
    return found


@settings(max_examples=100)
@given(
    changes=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=20),
    seconds=st.integers(0, 6),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_it_expires_as_in_a_plain_simulation(changes: Changes, seconds: int, backend: Backend) -> None:
    found = run_virtually(backend, expiries, changes, seconds + 0.5)
    assert found == pytest.approx(naive(changes, seconds + 0.5))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_without_a_limit_it_never_expires(backend: Backend) -> None:
    assert run_virtually(backend, expiries, [(1, True)], None) == []
