"""Synchronous workers equal one learner with their batches joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from actorq.actors.spec import derive_seed
from actorq.learning.agent import Agent
from actorq.learning.compiling import missing_compiler
from actorq.learning.networks.factory import make_parameters
from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.replay.chunk import Batch
from actorq.roles.learner.worker import Worker
from actorq.testing import Record
from tests.actors.world import TRANSPORTS, World, fresh
from tests.roles.topologies import MEMORY, Diligent, batch_of, crew, names_of

pytestmark = pytest.mark.anyio

Vector = NDArray[Any]

UPDATES = 100
WITHIN = {"float32": 1e-5, "float64": 1e-10}

# RMSProp's large epsilon lets a gradient's length count, which Adam all but takes away.
RMSPROP = Agent(
    hidden=(8,),
    batch_size=8,
    optimizer="rmsprop",
    learning_rate=1e-3,
    max_gradient_norm=0.25,
    target_every_updates=7,
    dtype="float64",
)
ADAM = replace(RMSPROP, optimizer="adam", dtype="float32", polyak=0.05, target_every_updates=None)


def plain_loop(agent: Agent, workers: int, seed: int, times: float = 1.0) -> tuple[Vector, Vector, int]:
    """One learner at so many times the batch; parameters, target, and how often it clipped.

    `times` its gradient: what a server would do that took the sum for the mean.
    """
    online = make_parameters(agent, (4,), np.float32, 2, seed)
    target = TargetNetwork(agent, online)
    rule = LearningRule(agent, online, target.parameters)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    clipped = 0
    for number in range(1, UPDATES + 1):
        rule(joined([batch_of(agent, worker, number) for worker in range(workers)]))
        online.gradient.mul_(times)
        assert agent.max_gradient_norm is not None
        clipped += clip_gradient_norm(online.gradient, agent.max_gradient_norm) > agent.max_gradient_norm
        optimizer.step()
        target.follow(number)
    return online.read(), target.parameters.read(), clipped


def joined(batches: list[Batch]) -> Batch:
    fields = Batch.__struct_fields__
    return Batch(**{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in fields})


async def pushed_and_applied(
    agent: Agent, workers: int, shards: int, transport: str, **given: Any
) -> tuple[Vector, Vector]:
    """What the shards hold after as many rounds of real workers."""
    resting = Record[int]()
    diligent = fresh(Diligent, gradients=UPDATES, resting=resting)
    specs = crew(diligent, workers, shards, agent, rule="synchronous", **given)
    async with World(TRANSPORTS[transport], 1 if transport == "inproc" else 2).system(*specs) as system:
        await resting.reaches(workers)
    points = [system.final_states[name]["points"][-1] for name in names_of("server", shards)]
    assert {point["updates"] for point in points} == {UPDATES}
    parameters, target = (
        np.concatenate([point[name] for point in points]) for name in ("parameters", "target")
    )
    return parameters, target


@pytest.mark.parametrize("agent", [RMSPROP, ADAM], ids=lambda agent: f"{agent.optimizer}-{agent.dtype}")
@pytest.mark.parametrize(
    ("workers", "shards", "transport"),
    [
        (1, 1, "inproc"),
        (2, 2, "nng-ipc"),
        (3, 1, "inproc"),
        (5, 5, "inproc"),
    ],
)
async def test_the_same_parameters_after_a_hundred_updates(
    agent: Agent, workers: int, shards: int, transport: str
) -> None:
    parameters, target = await pushed_and_applied(agent, workers, shards, transport)
    serial, serial_target, clipped = plain_loop(agent, workers, derive_seed(0, "coordinator"))
    assert 0 < clipped < UPDATES, "some are clipped, and some are not"
    np.testing.assert_allclose(parameters, serial, rtol=0, atol=WITHIN[agent.dtype])
    np.testing.assert_allclose(target, serial_target, rtol=0, atol=WITHIN[agent.dtype])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(missing_compiler() is not None, reason="this machine has no C++ compiler")
async def test_compiled_networks_learn_the_same() -> None:
    """In the threads that long computations are sent to, and on the loop when they are short."""
    config = Worker.Config(envs=1, chunk_steps=2, replay=MEMORY, compile="default")
    parameters, _ = await pushed_and_applied(ADAM, 2, 1, "inproc", worker_config=config)
    serial, _, _ = plain_loop(ADAM, 2, derive_seed(0, "coordinator"))
    np.testing.assert_allclose(parameters, serial, rtol=0, atol=1e-4)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_it_would_show_if_the_mean_were_a_sum(workers: int) -> None:
    mean, _, _ = plain_loop(RMSPROP, workers, 0)
    total, _, _ = plain_loop(RMSPROP, workers, 0, times=workers)
    assert np.abs(mean - total).max() > 100 * WITHIN["float32"]


def test_it_would_show_if_nothing_were_clipped() -> None:
    clipped, _, _ = plain_loop(RMSPROP, 2, 0)
    unclipped, _, _ = plain_loop(replace(RMSPROP, max_gradient_norm=1e9), 2, 0)
    assert np.abs(clipped - unclipped).max() > 100 * WITHIN["float32"]
