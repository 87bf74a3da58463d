"""Turns: so many inside at a time, the oldest first, and nobody's place is lost."""

from __future__ import annotations

import anyio
import pytest

from actorq.roles.common.semaphore import ClosableSemaphore

pytestmark = pytest.mark.anyio


async def test_the_oldest_goes_first() -> None:
    turns, order = ClosableSemaphore(1, anyio.Event), list[str]()

    async def take(name: str) -> None:
        async with turns.turn():
            order.append(name)

    async with anyio.create_task_group() as group, turns.turn():
        for name in "abcd":
            group.start_soon(take, name)
            await anyio.wait_all_tasks_blocked()
        assert order == []
    assert order == ["a", "b", "c", "d"]


async def test_so_many_are_inside() -> None:
    turns, inside, most = ClosableSemaphore(2, anyio.Event), 0, 0

    async def take() -> None:
        nonlocal inside, most
        async with turns.turn():
            inside += 1
            most = max(most, inside)
            await anyio.lowlevel.checkpoint()
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(take)
    assert (inside, most) == (0, 2)


@pytest.mark.parametrize("leave_first", [True, False])
async def test_who_is_cancelled_leaves_its_place(leave_first: bool) -> None:
    """Also in the moment in which its turn has come."""
    turns = ClosableSemaphore(1, anyio.Event)

    async def take(scope: anyio.CancelScope) -> None:
        with scope:
            async with turns.turn():
                pass

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        async with turns.turn():
            group.start_soon(take, scope)
            await anyio.wait_all_tasks_blocked()
            if not leave_first:
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
        scope.cancel()
    async with turns.turn():
        pass


async def test_once_closed_nobody_enters() -> None:
    turns, failed = ClosableSemaphore(1, anyio.Event), list[str]()

    async def take() -> None:
        try:
            async with turns.turn():
                pass
        except RuntimeError as error:
            failed.append(str(error))

    async with anyio.create_task_group() as group, turns.turn():
        group.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        turns.close(RuntimeError("over"))
        await anyio.wait_all_tasks_blocked()
        await take()
    assert failed == ["over", "over"]
