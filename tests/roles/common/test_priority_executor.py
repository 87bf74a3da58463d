"""A stage's computations: one at a time, the urgent first, and the next one without the loop."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest

from actorq.actors import Actor, ActorSpec, System
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.priority_executor import PriorityExecutor
from tests.actors.world import fresh

pytestmark = pytest.mark.anyio

ALWAYS_LONG = -1.0
ALWAYS_SHORT = math.inf
SECONDS = 30.0
"""For a thread that waits for another: only a fault lets it pass."""


class Host(Actor):
    body: Callable[[Actor], Awaitable[None]]
    done: anyio.Event

    async def run(self) -> None:
        await type(self).body(self)
        self.done.set()


async def inside(body: Callable[[Actor], Awaitable[None]], *, deterministic: bool = False) -> None:
    """Run `body` as an actor does."""
    done = anyio.Event()
    cls = fresh(Host, body=staticmethod(body), done=done)
    async with System(
        [ActorSpec(name="host", cls=cls, config=cls.Config())], deterministic=deterministic
    ) as system:
        await done.wait()
    assert system.statistics().restarts == 0


async def test_the_urgent_go_first_and_of_these_the_oldest() -> None:
    order: list[str] = []

    async def body(actor: Actor) -> None:
        computer, kind, gate = (
            PriorityExecutor(actor),
            AdaptiveExecutor(actor, ALWAYS_LONG),
            threading.Event(),
        )
        under_way = actor.event()
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            assert gate.wait(SECONDS)

        async def compute(name: str, rank: int) -> None:
            await computer(kind, order.append, name, rank=rank)
            if len(order) == 4:
                under_way.set()

        actor.start_soon(computer.__call__, kind, wait)
        await actor.in_thread(begun.wait, SECONDS)
        for name, rank in (("a1", 1), ("b0", 0), ("c1", 1), ("d0", 0)):
            actor.start_soon(compute, name, rank)
            await actor.sleep(0)
        gate.set()
        await under_way.wait()

    await inside(body)
    assert order == ["b0", "d0", "a1", "c1"]


async def test_the_next_one_begins_though_the_loop_is_held() -> None:
    async def body(actor: Actor) -> None:
        computer, kind = PriorityExecutor(actor), AdaptiveExecutor(actor, ALWAYS_LONG)
        begun, gate, second = threading.Event(), threading.Event(), threading.Event()

        def first() -> None:
            begun.set()
            assert gate.wait(SECONDS)

        actor.start_soon(computer.__call__, kind, first)
        await actor.in_thread(begun.wait, SECONDS)
        actor.start_soon(computer.__call__, kind, second.set)
        for _ in range(10):  # until a thread stands by with it
            await actor.sleep(0)
        gate.set()
        assert second.wait(SECONDS), "while the loop does nothing but wait"

    await inside(body)


async def test_one_at_a_time() -> None:
    inside_now, most = 0, 0
    lock = threading.Lock()

    def count_in() -> None:
        nonlocal inside_now, most
        with lock:
            inside_now += 1
            most = max(most, inside_now)
        with lock:
            inside_now -= 1

    async def body(actor: Actor) -> None:
        computer = PriorityExecutor(actor)
        kinds = [AdaptiveExecutor(actor, ALWAYS_LONG), AdaptiveExecutor(actor, ALWAYS_SHORT)]
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(computer.__call__, kinds[number % 2], count_in)

    await inside(body)
    assert (inside_now, most) == (0, 1)


@pytest.mark.parametrize("long_seconds", [ALWAYS_LONG, ALWAYS_SHORT])
@pytest.mark.parametrize("deterministic", [False, True])
async def test_results_and_errors_reach_the_asker(long_seconds: float, deterministic: bool) -> None:
    async def body(actor: Actor) -> None:
        computer, kind = PriorityExecutor(actor), AdaptiveExecutor(actor, long_seconds)
        for number in range(3):
            assert await computer(kind, divmod, 17, number + 1) == divmod(17, number + 1)
            with pytest.raises(ZeroDivisionError):
                await computer(kind, divmod, 17, 0)

    await inside(body, deterministic=deterministic)


async def test_a_cancelled_task_takes_no_place() -> None:
    async def body(actor: Actor) -> None:
        computer, kind, gate = (
            PriorityExecutor(actor),
            AdaptiveExecutor(actor, ALWAYS_LONG),
            threading.Event(),
        )
        results: list[int] = []

        async def compute(number: int, scope: anyio.CancelScope) -> None:
            with scope:
                results.append(await computer(kind, abs, number))

        scopes = [anyio.CancelScope() for _ in range(6)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(computer.__call__, kind, gate.wait, SECONDS)
            for number, scope in enumerate(scopes):
                tasks.start_soon(compute, number, scope)
            await actor.sleep(0)
            for scope in scopes[::2]:
                scope.cancel()
            await actor.sleep(0)
            gate.set()
        assert sorted(results) == [1, 3, 5]
        assert await computer(kind, abs, -7) == 7

    await inside(body)
