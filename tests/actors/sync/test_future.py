"""Future: one result or error, the first one set, for all tasks that wait for it."""

from __future__ import annotations

import anyio
import pytest

from actorq.actors.sync import Future
from tests.actors.sync.stand_in import actor_in

pytestmark = pytest.mark.anyio


async def test_all_waiting_tasks_get_the_result() -> None:
    found: list[int] = []

    async def wait(future: Future[int]) -> None:
        found.append(await future.wait())

    async with anyio.create_task_group() as tasks:
        future = Future[int](actor_in(tasks))
        for _ in range(3):
            tasks.start_soon(wait, future)
        await anyio.wait_all_tasks_blocked()
        assert not future.is_set
        future.set(7)
    assert found == [7, 7, 7]
    assert await future.wait() == 7


async def test_an_error_is_raised_where_it_is_waited_for() -> None:
    async with anyio.create_task_group() as tasks:
        future = Future[int](actor_in(tasks))
        future.fail(LookupError("none"))
        assert future.is_set
        with pytest.raises(LookupError, match="none"):
            await future.wait()


@pytest.mark.parametrize("first", ["result", "error"])
async def test_the_first_one_set_counts(first: str) -> None:
    async with anyio.create_task_group() as tasks:
        future = Future[int](actor_in(tasks))
        if first == "result":
            future.set(1)
        future.fail(LookupError("none"))
        future.set(2)
        if first == "result":
            assert await future.wait() == 1
        else:
            with pytest.raises(LookupError):
                await future.wait()


async def test_a_cancelled_wait_leaves_it_as_it_is() -> None:
    async with anyio.create_task_group() as tasks:
        future = Future[int](actor_in(tasks))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await future.wait()
        assert not future.is_set
        future.set(3)
        assert await future.wait() == 3
