"""Batches of questions: due by size or by deadline, whichever is first, against a plain simulation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal, cast

import anyio
import numpy as np
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors import Actor, Refused
from actorq.roles.inference.dynamic_batcher import DynamicBatcher
from actorq.roles.inference.messages import Act, Acted
from actorq.roles.replay.messages import Version
from actorq.testing import run_virtually

TINY = 1e-3
"""Deadlines and computations end beside whole seconds, when questions come: no two things at one time."""

Backend = Literal["asyncio", "trio"]
Batches = list[tuple[float, list[int]]]
"""When each was taken, and which questions it has."""


def question(number: int, observations: int) -> Act:
    return Act(np.full((observations, 1), number, np.float32))


def gathering(tasks: TaskGroup, batch_size: int, deadline: float) -> DynamicBatcher:
    stand_in = SimpleNamespace(
        now=anyio.current_time, event=anyio.Event, sleep=anyio.sleep, start_soon=tasks.start_soon
    )
    return DynamicBatcher(cast(Actor, stand_in), batch_size, deadline)


async def taken(
    arrivals: list[tuple[int, int]], batch_size: int, deadline: float, computing: float
) -> tuple[Batches, list[float]]:
    """What a taker that computes for so long gets of questions (when, observations); and the shares held."""
    batches: Batches = []
    shares: list[float] = []
    async with anyio.create_task_group() as tasks:
        line = gathering(tasks, batch_size, deadline)

        async def ask(number: int, at: int, observations: int) -> None:
            await anyio.sleep(at)
            answer = await line.ask(question(number, observations))
            assert answer.version.updates == number

        for number, (at, observations) in enumerate(arrivals):
            tasks.start_soon(ask, number, at, observations)
        while sum(len(numbers) for _, numbers in batches) < len(arrivals):
            batch = await line.take()
            numbers = [int(each.request.observations[0, 0]) for each in batch]
            batches.append((anyio.current_time(), numbers))
            shares.append(line.held_share)
            await anyio.sleep(computing)
            for each, number in zip(batch, numbers, strict=True):
                each.settle(Acted(each.request.observations, Version(0, number)))
    return batches, shares


def simulated(arrivals: list[tuple[int, int]], batch_size: int, deadline: float, computing: float) -> Batches:
    batches: Batches = []
    free, waiting = 0.0, list(enumerate(arrivals))
    while waiting:
        total, full = 0, float("inf")
        for _, (at, observations) in waiting:
            total += observations
            if total >= batch_size:
                full = at
                break
        due = max(free, min(full, waiting[0][1][0] + deadline))
        batch, room = list[int](), batch_size
        for number, (at, observations) in waiting:
            if at > due or (batch and observations > room):
                break
            batch.append(number)
            room -= observations
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
    arrivals = [(begin, observations) for begin, (_, observations) in zip(at, gaps, strict=True)]
    settings_ = (batch_size, deadline + TINY, computing + TINY / 64)
    found, shares = run_virtually(backend, taken, arrivals, *settings_)
    expected = simulated(arrivals, *settings_)
    assert [numbers for _, numbers in found] == [numbers for _, numbers in expected]
    assert [at for at, _ in found] == pytest.approx([at for at, _ in expected])
    assert all(0.0 <= share <= 1.0 for share in shares)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_share_held_is_what_questions_wait_for_others(backend: Backend) -> None:
    _, shares = run_virtually(backend, taken, [(2, 1), (3, 1), (4, 1), (20, 1)], 2, 6.0, 5.0)
    # Held from 2 to 3, until there were two. From 8, when the first batch was done, until 10, the third's
    # deadline. And from 20 to 26.
    assert shares == pytest.approx([1 / 3, 2 / 7, 6 / 16])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_waits_can_be_turned_back(backend: Backend) -> None:
    async def turned_back() -> list[Any]:
        refused: list[Any] = []
        async with anyio.create_task_group() as tasks:
            line = gathering(tasks, 10, 5.0)

            async def ask(number: int) -> None:
                try:
                    await line.ask(question(number, 3))
                except Refused as refusal:
                    refused.append((number, refusal.reason))

            tasks.start_soon(ask, 1)
            tasks.start_soon(ask, 2)
            await anyio.sleep(1)
            line.turn_back(Refused("no"))
            await anyio.sleep(1)
            tasks.start_soon(ask, 3)
            batch = await line.take()
            assert [len(each) for each in batch] == [3], "what was turned back counts no more"
            batch[0].settle(Refused("nor this"))
        return refused

    assert sorted(run_virtually(backend, turned_back)) == [(1, "no"), (2, "no"), (3, "nor this")]
