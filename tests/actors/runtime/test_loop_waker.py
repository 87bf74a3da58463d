"""Loop waker: threads pass functions to an event loop without waiting for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import pytest

from actorq.actors.runtime.loop_waker import LoopWaker


async def serve_until(waker: LoopWaker, event: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waker.serve)
        await event.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_functions_are_called_in_each_threads_order() -> None:
    """More of them than a socket has room for bytes, and nobody serves yet."""
    waker, called, done = LoopWaker(), list[tuple[int, int]](), anyio.Event()
    each, threads = 10_000, 4

    def hand_over(thread: int) -> None:
        for number in range(each):
            waker.call_soon(partial(called.append, (thread, number)))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(hand_over, range(threads)))
    waker.call_soon(done.set)
    await serve_until(waker, done)
    waker.close()
    for thread in range(threads):
        assert [number for by, number in called if by == thread] == list(range(each))


@pytest.mark.anyio
async def test_a_loop_that_waits_is_woken() -> None:
    here, there = LoopWaker(), LoopWaker()
    done = anyio.Event()

    def answer() -> None:
        async def serve() -> None:
            stopped = anyio.Event()
            there.call_soon(stopped.set)
            await serve_until(there, stopped)

        anyio.run(serve)
        here.call_soon(done.set)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(answer)
        await serve_until(here, done)
    here.close()
    there.close()


def test_nothing_happens_once_it_is_closed() -> None:
    waker = LoopWaker()
    waker.close()
    waker.call_soon(pytest.fail)
