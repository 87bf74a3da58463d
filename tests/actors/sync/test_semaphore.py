"""Semaphore: a bounded number of tasks inside, in arrival order, and no place is lost."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.sync import Semaphore
from actorq.testing import run_virtually
from tests.actors.sync.stand_in import Backend, actor_in


async def entered_after_each(operations: Sequence[tuple[str, int]], places: int) -> list[list[int]]:
    """Perform ("enter", _), ("leave", i) of the i-th inside and ("cancel", i) of the i-th waiting; returns
    who is inside after each."""
    found: list[list[int]] = []
    inside: dict[int, anyio.Event] = {}
    waiting: dict[int, anyio.CancelScope] = {}
    async with anyio.create_task_group() as tasks:
        semaphore = Semaphore(actor_in(tasks), places)

        async def enter(number: int) -> None:
            try:
                with waiting[number]:
                    async with semaphore:
                        del waiting[number]
                        leave = inside[number] = anyio.Event()
                        await leave.wait()
                        del inside[number]
            finally:
                waiting.pop(number, None)

        for number, (operation, index) in enumerate(operations):
            if operation == "enter":
                waiting[number] = anyio.CancelScope()
                tasks.start_soon(enter, number)
            elif operation == "leave" and inside:
                list(inside.values())[index % len(inside)].set()
            elif operation == "cancel" and waiting:
                list(waiting.values())[index % len(waiting)].cancel()
            await anyio.sleep(1)  # virtual: until all tasks wait
            found.append(list(inside))
        tasks.cancel_scope.cancel()
    return found


def naive(operations: Sequence[tuple[str, int]], places: int) -> list[list[int]]:
    found, inside, waiting = [], list[int](), list[int]()
    for number, (operation, index) in enumerate(operations):
        if operation == "enter":
            waiting.append(number)
        elif operation == "leave" and inside:
            inside.pop(index % len(inside))
        elif operation == "cancel" and waiting:
            waiting.pop(index % len(waiting))
        while waiting and len(inside) < places:
            inside.append(waiting.pop(0))
        found.append(list(inside))
    return found


@settings(max_examples=60)
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["enter", "enter", "leave", "cancel"]), st.integers(0, 5)), max_size=25
    ),
    places=st.integers(1, 3),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_tasks_enter_in_arrival_order(
    operations: list[tuple[str, int]], places: int, backend: Backend
) -> None:
    assert run_virtually(backend, entered_after_each, operations, places) == naive(operations, places)


@pytest.mark.anyio
async def test_a_task_cancelled_as_it_is_given_its_place_gives_it_up() -> None:
    async with anyio.create_task_group() as tasks:
        semaphore, scope = Semaphore(actor_in(tasks), 1), anyio.CancelScope()

        async def enter() -> None:
            with scope:
                async with semaphore:  # on asyncio it may have been woken before
                    pass

        async with semaphore:
            tasks.start_soon(enter)
            await anyio.wait_all_tasks_blocked()
        scope.cancel()
        async with semaphore:
            pass


@pytest.mark.anyio
async def test_an_error_inside_leaves() -> None:
    async with anyio.create_task_group() as tasks:
        semaphore = Semaphore(actor_in(tasks), 1)
        with pytest.raises(LookupError):
            async with semaphore:
                raise LookupError
        async with semaphore:
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("place_given", [False, True])
async def test_no_task_enters_once_it_is_closed(place_given: bool) -> None:
    """Also one that has been given a place and not run since."""
    failed: list[str] = []

    async def enter(semaphore: Semaphore) -> None:
        try:
            async with semaphore:
                failed.append("entered")
        except RuntimeError as error:
            failed.append(str(error))

    async with anyio.create_task_group() as tasks:
        semaphore = Semaphore(actor_in(tasks), 1)
        async with semaphore:
            tasks.start_soon(enter, semaphore)
            await anyio.wait_all_tasks_blocked()
            if not place_given:
                semaphore.close(RuntimeError("over"))
        semaphore.close(RuntimeError("over"))
        await enter(semaphore)
    assert failed == ["over", "over"]
