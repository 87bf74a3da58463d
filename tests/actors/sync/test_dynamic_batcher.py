"""Dynamic batcher: batches due by size or by deadline, whichever is first, against a plain simulation."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors.sync import DynamicBatcher
from actorq.testing import run_virtually
from tests.actors.sync.stand_in import Backend, actor_in

TINY = 1e-3
"""Deadlines and computations end beside whole seconds, when requests arrive: no two things at one time."""

Batches = list[tuple[float, list[int]]]
"""When each was taken, and the requests in it."""


async def taken(
    arrivals: list[tuple[int, int]], batch_size: int, deadline: float, computing: float
) -> tuple[Batches, list[float]]:
    """The batches of requests that arrive at (time, size), where computing each takes a time; and the shares
    held."""
    batches: Batches = []
    shares: list[float] = []
    async with anyio.create_task_group() as tasks:
        batcher = DynamicBatcher[int, str](actor_in(tasks), batch_size, deadline)

        async def submit(number: int, at: int, size: int) -> None:
            await anyio.sleep(at)
            assert await batcher.submit(number, size) == str(number)

        for number, (at, size) in enumerate(arrivals):
            tasks.start_soon(submit, number, at, size)
        while sum(len(numbers) for _, numbers in batches) < len(arrivals):
            batch = await batcher.take()
            batches.append((anyio.current_time(), [entry.request for entry in batch]))
            shares.append(batcher.held_share)
            await anyio.sleep(computing)
            for entry in batch:
                entry.reply.set(str(entry.request))
    return batches, shares


def simulated(arrivals: list[tuple[int, int]], batch_size: int, deadline: float, computing: float) -> Batches:
    batches: Batches = []
    free, waiting = 0.0, list(enumerate(arrivals))
    while waiting:
        total, full = 0, float("inf")
        for _, (at, size) in waiting:
            total += size
            if total >= batch_size:
                full = at
                break
        due = max(free, min(full, waiting[0][1][0] + deadline))
        batch, room = list[int](), batch_size
        for number, (at, size) in waiting:
            if at > due or (batch and size > room):
                break
            batch.append(number)
            room -= size
        batches.append((due, batch))
        waiting = waiting[len(batch) :]
        free = due + computing
    return batches


@settings(max_examples=150)
@given(
    gaps=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=20),
    batch_size=st.integers(1, 12),
    deadline=st.integers(0, 9),
    computing=st.integers(0, 6),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_batches_are_those_of_a_plain_simulation(
    gaps: list[tuple[int, int]], batch_size: int, deadline: int, computing: int, backend: Backend
) -> None:
    at = np.cumsum([gap for gap, _ in gaps]).tolist()
    arrivals = [(begin, size) for begin, (_, size) in zip(at, gaps, strict=True)]
    settings_ = (batch_size, deadline + TINY, computing + TINY / 64)
    found, shares = run_virtually(backend, taken, arrivals, *settings_)
    expected = simulated(arrivals, *settings_)
    assert [numbers for _, numbers in found] == [numbers for _, numbers in expected]
    assert [at for at, _ in found] == pytest.approx([at for at, _ in expected])
    assert all(0.0 <= share <= 1.0 for share in shares)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_share_held_is_the_waiting_for_other_requests(backend: Backend) -> None:
    _, shares = run_virtually(backend, taken, [(2, 1), (3, 1), (4, 1), (20, 1)], 2, 6.0, 5.0)
    # Held from 2 to 3, until there were two. From 8, when the first batch was done, until 10, the third's
    # deadline. And from 20 to 26.
    assert shares == pytest.approx([1 / 3, 2 / 7, 6 / 16])


async def refused(batcher: DynamicBatcher[int, int], number: int, found: list[tuple[int, str]]) -> None:
    try:
        await batcher.submit(number, 3)
    except RuntimeError as error:
        found.append((number, str(error)))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_error_goes_to_the_request_it_is_set_for(backend: Backend) -> None:
    async def submitted() -> list[tuple[int, str]]:
        found = list[tuple[int, str]]()
        async with anyio.create_task_group() as tasks:
            batcher = DynamicBatcher[int, int](actor_in(tasks), 10, 5.0)
            tasks.start_soon(refused, batcher, 1, found)
            tasks.start_soon(batcher.submit, 2, 3)
            for entry in await batcher.take():
                if entry.request == 1:
                    entry.reply.fail(RuntimeError("not this one"))
                else:
                    entry.reply.set(0)
        return found

    assert run_virtually(backend, submitted) == [(1, "not this one")]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closed_it_refuses_waiting_and_later_requests(backend: Backend) -> None:
    async def submitted() -> list[tuple[int, str]]:
        found = list[tuple[int, str]]()
        async with anyio.create_task_group() as tasks:
            batcher = DynamicBatcher[int, int](actor_in(tasks), 10, 5.0)
            tasks.start_soon(refused, batcher, 1, found)
            tasks.start_soon(refused, batcher, 2, found)
            await anyio.sleep(1)
            batcher.close(RuntimeError("over"))
            await refused(batcher, 3, found)
            with anyio.move_on_after(100) as scope:
                await batcher.take()
            assert scope.cancelled_caught
            tasks.cancel_scope.cancel()
        return found

    found = run_virtually(backend, submitted)
    assert sorted(found) == [(1, "over"), (2, "over"), (3, "over")]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_request_cancelled_before_its_batch_is_taken_is_in_none(backend: Backend) -> None:
    """A cancelled `take` leaves the others waiting; a reply to a cancelled request is dropped."""

    async def submitted() -> list[list[int]]:
        batches = list[list[int]]()
        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            batcher = DynamicBatcher[int, int](actor_in(tasks), 4, 5.0)

            async def submit(number: int) -> None:
                with scopes[number]:
                    await batcher.submit(number, 2)

            tasks.start_soon(submit, 0)
            with anyio.move_on_after(1):
                await batcher.take()
            scopes[0].cancel()
            await anyio.sleep(1)
            for number in (1, 2):
                tasks.start_soon(submit, number)
            batch = await batcher.take()
            batches.append([entry.request for entry in batch])
            scopes[1].cancel()
            await anyio.sleep(1)
            for entry in batch:
                entry.reply.set(0)
        return batches

    assert [sorted(batch) for batch in run_virtually(backend, submitted)] == [[1, 2]]
