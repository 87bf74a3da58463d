"""A gradient that was pushed counts once, and no part of it is kept."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest
import torch

from actorq.actors import Refused, System
from actorq.learning.optimizers import make_optimizer
from actorq.roles.parameter_server.messages import Push, Pushed
from tests.actors.world import AT_ONCE, all_blocked

from .server import AGENT, Workers, server
from .test_parameter_server import gradients

pytestmark = pytest.mark.anyio


async def test_a_gradient_pushed_twice_counts_once() -> None:
    async with System(server(2), AT_ONCE) as system:
        workers = Workers(system, 2)
        version = (await workers.pull()).version
        ticket, gradient = workers.ticket(0), gradients(1)[0]
        twice: list[Pushed | str] = []

        async def push() -> None:
            try:
                twice.append(await workers.coordinator.ask(Push(ticket, version, gradient.nbytes, 0)))
            except Refused as refusal:
                twice.append(refusal.reason)

        await workers.send(gradient, version, ticket)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push)
            tasks.start_soon(push)
        [first] = [each for each in twice if isinstance(each, Pushed)]
        twice.remove(first)
        assert twice == ["gradient 1 of this incarnation of the worker was pushed already"]
        assert first.delivery_state == "accepted"
        after = (await workers.pull()).version
        assert (after.incarnation, after.updates) == (version.incarnation, 1)
        assert (await workers.push(gradient, after)).delivery_state == "accepted"
    assert system.statistics().restarts == 0


async def test_a_second_push_replaces_the_waiting_first() -> None:
    """A synchronous update takes the mean of what the workers pushed last."""
    first, second, other = gradients(3)
    async with System(server(1, rule="synchronous"), AT_ONCE) as system:
        workers = Workers(system)
        pulled = await workers.pull(0)
        assert (await workers.pull(1)).version == pulled.version
        before, _ = await workers.read(pulled)
        answers: list[Any] = []

        async def push(gradient: np.ndarray, worker: int) -> None:
            try:
                answers.append((await workers.push(gradient, pulled.version, worker)).delivery_state)
            except Refused as refusal:
                answers.append(refusal.reason)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push, first, 0)
            await all_blocked()
            tasks.start_soon(push, second, 0)
            await all_blocked()
            assert answers == ["the worker has pushed another one"]
            tasks.start_soon(push, other, 1)
        assert answers[1:] == ["accepted", "accepted"]
        after = await workers.pull(0)
        assert after.version.updates == 1
        np.testing.assert_array_equal((await workers.read(after))[0], _stepped(before, (second + other) / 2))
        shard: Any = system._local.cells["server"].actor
        assert not shard._gradients
    assert system.statistics().restarts == 0


def _stepped(parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """One optimizer's step, without a server."""
    vector, gradients = torch.from_numpy(parameters.copy()), torch.from_numpy(gradient.copy())
    make_optimizer(AGENT, vector, gradients).step()
    return vector.numpy()


@pytest.mark.parametrize("settings", [{"rule": "asynchronous"}, {"rule": "bounded", "max_staleness": 1}])
async def test_what_gradients_come_from_is_kept_only_until_the_next(settings: dict[str, Any]) -> None:
    async with System(server(1, 1, stale="compensate", **settings), AT_ONCE) as system:
        workers = Workers(system)
        pulled = await workers.pull()
        for gradient in gradients(100):
            await workers.read(pulled)
            answer = await workers.push(gradient, pulled.version)
            assert answer.pulled is not None
            pulled = answer.pulled
        shard: Any = system._local.cells["server"].actor
        assert len(shard._readers._handed[0]) <= 2
