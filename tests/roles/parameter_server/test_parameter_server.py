"""The parameter server: updates in order, versions whole, bad gradients refused."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
import torch

from actorq.actors import ActorDied, Refused, System
from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
from actorq.roles.parameter_server.messages import Fetch, Push, Restore
from actorq.roles.parameter_server.shard import ParameterServer
from actorq.roles.replay.messages import Version
from tests.actors.world import AT_ONCE

from .server import AGENT, SIZE, Workers, server

pytestmark = pytest.mark.anyio


def gradients(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=SIZE) for _ in range(count)]


@pytest.mark.parametrize("shards", [1, 2, 3])
async def test_asynchronous_updates_are_those_of_one_optimizer(shards: int) -> None:
    specs = server(shards)
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, shards)
        pulled = await workers.pull()
        first, _ = await workers.read(pulled)
        vector = torch.from_numpy(first.copy())
        gradient = torch.zeros_like(vector)
        optimizer = make_optimizer(AGENT, vector, gradient)
        target = vector.clone()
        version = pulled.version
        for number, pushed in enumerate(gradients(10), 1):
            answer = await workers.push(pushed, version, worker=number % 2)
            assert answer.delivery_state == "accepted"
            assert answer.pulled is not None
            version = answer.pulled.version
            assert version.updates == number
            gradient.copy_(torch.from_numpy(pushed))
            optimizer.step()
            if number % 4 == 0:
                target.copy_(vector)
            parameters, late = await workers.read(answer.pulled)
            np.testing.assert_array_equal(parameters, vector.numpy())
            np.testing.assert_array_equal(late, target.numpy())


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_synchronous_update_takes_the_mean_clipped_by_its_norm_over_all_shards(shards: int) -> None:
    from msgspec.structs import replace

    agent = replace(AGENT, max_gradient_norm=0.5)
    specs = server(shards, 3, agent=agent, rule="synchronous")
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, shards)
        pulled = await workers.pull()
        first, _ = await workers.read(pulled)
        vector = torch.from_numpy(first.copy())
        gradient = torch.zeros_like(vector)
        optimizer = make_optimizer(agent, vector, gradient)
        version = pulled.version
        for number in range(5):
            pushed = gradients(3, seed=number)
            answers: dict[int, Version] = {}

            async def push(
                worker: int,
                pushed: list[np.ndarray] = pushed,
                version: Version = version,
                answers: dict[int, Version] = answers,
            ) -> None:
                answer = await workers.push(pushed[worker], version, worker)
                assert answer.pulled is not None
                answers[worker] = answer.pulled.version

            async with anyio.create_task_group() as tasks:
                for worker in range(3):
                    tasks.start_soon(push, worker)
            version = Version(version.incarnation, number + 1)
            assert list(answers.values()) == [version] * 3
            gradient.copy_(torch.from_numpy(sum(pushed) / 3))
            clip_gradient_norm(gradient, 0.5)
            optimizer.step()
        parameters, _ = await workers.read(await workers.pull())
        np.testing.assert_allclose(parameters, vector.numpy(), rtol=0, atol=1e-14)


async def test_what_cannot_be_applied_is_refused_and_changes_nothing() -> None:
    specs = server(2)
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, 2)
        pulled = await workers.pull()
        before, _ = await workers.read(pulled)
        version, good = pulled.version, gradients(1)[0]
        nan, infinite = good.copy(), good.copy()
        nan[-1], infinite[0] = np.nan, np.inf
        for bad in (nan, infinite):
            with pytest.raises(Refused, match="NaN or infinite"):
                await workers.push(bad, version)
        with pytest.raises(Refused, match="from the future"):
            await workers.push(good, Version(version.incarnation, 1))
        with pytest.raises(Refused, match="no version -1"):
            await workers.push(good, Version(version.incarnation, -1))
        with pytest.raises(Refused, match="incarnation"):
            await workers.push(good, Version(version.incarnation - 1, 0))
        with pytest.raises(Refused, match="it decodes to 4 numbers"):
            await workers.push(good[:9], version)
        with pytest.raises(Refused, match="no worker 7"):
            await workers.push(good, version, worker=7)
        with pytest.raises(Refused, match="pull again"):
            await workers.servers[0].ask(Fetch(0, Version(version.incarnation + 1, 0), None, None))
        assert (await workers.pull()).version == version
        np.testing.assert_array_equal((await workers.read(pulled))[0], before)
        assert (await workers.push(good, version)).delivery_state == "accepted"


@pytest.mark.parametrize("dying", ["server.0", "server.1", "coordinator"])
async def test_after_a_death_all_continue_from_an_earlier_version(dying: str) -> None:
    config = ParameterServer.Config(restore_within_updates=10)
    specs = server(2, shard_config=config)
    async with System(specs, AT_ONCE) as system:
        workers = Workers(system, 2)
        pulled = await workers.pull()
        history = {0: await workers.read(pulled)}
        for number, pushed in enumerate(gradients(33), 1):
            answer = await workers.push(pushed, pulled.version)
            assert answer.pulled is not None
            pulled = answer.pulled
            history[number] = await workers.read(pulled)
        await kill(system, dying)
        lost = pulled.version
        again = await workers.pull()
        assert again.version.incarnation > lost.incarnation
        assert 23 <= again.version.updates <= 33
        for mine, theirs in zip(await workers.read(again), history[again.version.updates], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert again.target_updates == again.version.updates // 4 * 4
        with pytest.raises(Refused, match="incarnation"):
            await workers.push(gradients(1)[0], lost)
        assert (await workers.push(gradients(1)[0], again.version)).delivery_state == "accepted"


async def kill(system: System, actor: str) -> None:
    """Make an actor crash over an order that can't be."""
    ref = system.ref(actor)
    if actor == "coordinator":
        with pytest.raises(ActorDied):
            await ref.ask(Push(None, None, 0, 0))  # type: ignore[arg-type]
    else:
        with pytest.raises(ActorDied):
            await ref.ask(Restore(0, 0, 0, False, "nonsense"))  # type: ignore[arg-type]
