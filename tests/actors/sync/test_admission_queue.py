"""Admission queue: strictly first in, first out, each admitted at the moment that there is room for it."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.sync import AdmissionQueue
from actorq.testing import run_virtually
from tests.actors.sync.stand_in import Backend, actor_in


async def admitted_after_each(operations: Sequence[tuple[str, int]]) -> list[list[int]]:
    """Perform ("ask", amount), ("room", amount) and ("cancel", i) of the i-th waiting; returns who has been
    admitted after each."""
    found: list[list[int]] = []
    admitted: list[int] = []
    waiting: dict[int, anyio.CancelScope] = {}
    room = 0
    async with anyio.create_task_group() as tasks:
        queue = AdmissionQueue(actor_in(tasks), lambda amount: amount <= room)

        async def ask(number: int, amount: int) -> None:
            def act() -> int:
                nonlocal room
                room -= amount
                admitted.append(number)
                return number

            with waiting[number]:
                assert await queue.pass_through(amount, act) == number
            del waiting[number]

        for number, (operation, amount) in enumerate(operations):
            if operation == "ask":
                waiting[number] = anyio.CancelScope()
                tasks.start_soon(ask, number, amount)
            elif operation == "room":
                room += amount
                before = len(admitted)
                assert queue.advance() == (len(admitted) > before)
            elif waiting:
                list(waiting.values())[amount % len(waiting)].cancel()
            await anyio.sleep(1)  # virtual: until all tasks wait
            found.append(list(admitted))
        tasks.cancel_scope.cancel()
    return found


def naive(operations: Sequence[tuple[str, int]]) -> list[list[int]]:
    found, admitted, waiting, room = [], list[int](), list[tuple[int, int]](), 0
    for number, (operation, amount) in enumerate(operations):
        if operation == "ask":
            waiting.append((number, amount))
        elif operation == "room":
            room += amount
        elif waiting:
            waiting.pop(amount % len(waiting))
        while waiting and waiting[0][1] <= room:
            first, taken = waiting.pop(0)
            room -= taken
            admitted.append(first)
        found.append(list(admitted))
    return found


@settings(max_examples=60)
@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["ask", "room", "cancel"]), st.integers(0, 6)), max_size=25
    ),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_amounts_are_admitted_in_order(operations: list[tuple[str, int]], backend: Backend) -> None:
    """No small amount passes a large one before it; cancelling the first lets the next pass."""
    assert run_virtually(backend, admitted_after_each, operations) == naive(operations)


@pytest.mark.anyio
async def test_an_error_goes_to_the_one_that_is_admitted() -> None:
    opened, found = False, list[object]()

    def fail() -> None:
        raise LookupError("mine")

    async def ask(queue: AdmissionQueue) -> None:
        try:
            await queue.pass_through(2, fail)
        except LookupError as error:
            found.append(str(error))

    async with anyio.create_task_group() as tasks:
        queue = AdmissionQueue(actor_in(tasks), lambda _: opened)
        tasks.start_soon(ask, queue)
        tasks.start_soon(ask, queue)
        await anyio.wait_all_tasks_blocked()
        assert queue.first == 2
        opened = True
        assert queue.advance()
        assert queue.first == 0
    assert found == ["mine", "mine"]


@pytest.mark.anyio
async def test_one_cancelled_as_it_is_admitted_has_been_admitted() -> None:
    opened, admitted, scope = False, list[int](), anyio.CancelScope()

    async def ask(queue: AdmissionQueue) -> None:
        with scope:
            await queue.pass_through(1, lambda: admitted.append(1))

    async with anyio.create_task_group() as tasks:
        queue = AdmissionQueue(actor_in(tasks), lambda _: opened)
        tasks.start_soon(ask, queue)
        await anyio.wait_all_tasks_blocked()
        opened = True
        queue.advance()
        scope.cancel()
    assert admitted == [1]


@pytest.mark.anyio
async def test_closed_it_admits_nothing() -> None:
    opened, found = False, list[str]()

    async def ask(queue: AdmissionQueue) -> None:
        try:
            await queue.pass_through(1, lambda: found.append("admitted"))
        except RuntimeError as error:
            found.append(str(error))

    async with anyio.create_task_group() as tasks:
        queue = AdmissionQueue(actor_in(tasks), lambda _: opened)
        tasks.start_soon(ask, queue)
        await anyio.wait_all_tasks_blocked()
        queue.close(RuntimeError("over"))
        opened = True
        assert not queue.advance()
        await ask(queue)
    assert found == ["over", "over"]
