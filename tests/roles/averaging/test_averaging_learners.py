"""Learners below an averaging server: periodic and elastic averaging as a plain loop computes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actorq.actors import State, System
from actorq.actors.spec import derive_seed
from actorq.learning.networks.factory import make_parameters
from actorq.learning.networks.flat import FlatParameters
from actorq.learning.optimizers import make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.testing import Record
from tests.actors.world import AT_ONCE, fresh
from tests.roles.topologies import batch_of

from .tree import LEARNING, Limited, learners

pytestmark = pytest.mark.anyio

COUNT, EVERY = 3, 10
UPDATES = Limited.limit


def alone(learner: int) -> Iterator[FlatParameters]:
    """A learner's loop: its parameters, before the first update and after each; whoever reads may write.

    The target follows what was written.
    """
    online = make_parameters(LEARNING, (4,), np.float32, 2, derive_seed(0, "root"))
    target = TargetNetwork(LEARNING, online)
    rule = LearningRule(LEARNING, online, target.parameters)
    optimizer = make_optimizer(LEARNING, online.vector, online.gradient)
    yield online
    for number in range(1, UPDATES + 1):
        rule(batch_of(LEARNING, learner, number))
        optimizer.step()
        yield online
        target.follow(number)


def in_a_loop(elasticity: float | None) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """The center and the learners' parameters after all updates; by their mean without elasticity."""
    loops = [alone(learner) for learner in range(COUNT)]
    center, *_ = [next(loop).read() for loop in loops]
    for number in range(1, UPDATES + 1):
        members = [next(loop) for loop in loops]
        if number % EVERY:
            continue
        if elasticity is None:
            center = np.mean([member.read() for member in members], axis=0)
            for member in members:
                member.write(center)
            continue
        for member in members:
            pull = elasticity * (member.read() - center)
            member.write(member.read() - pull)
            center = center + pull
    return center, [member.read() for member in members]


async def by_actors(**config: Any) -> dict[str, State]:
    resting: Record[str] = Record()
    specs = learners(COUNT, EVERY, fresh(Limited, resting=resting), **config)
    async with System(specs, AT_ONCE, deterministic=True) as system:
        await resting.reaches(COUNT)
    return system.final_states


async def test_the_mean_every_so_many_updates() -> None:
    states = await by_actors()
    center, _ = in_a_loop(None)
    np.testing.assert_allclose(states["root"]["parameters"], center, rtol=1e-9)
    for learner in range(COUNT):
        np.testing.assert_allclose(states[f"learner.{learner}"]["parameters"], center, rtol=1e-9)
        assert states[f"learner.{learner}"]["updates"] == UPDATES
    assert states["root"]["updates"] == COUNT * UPDATES


async def test_elastic_averaging() -> None:
    """One learner's turn after another's, in this run's order: the loop's is another, so it is near."""
    states = await by_actors(rule="elastic", elasticity=0.2)
    center, members = in_a_loop(0.2)
    apart = np.linalg.norm(states["root"]["parameters"] - center) / np.linalg.norm(center)
    assert apart < 0.01
    for learner, member in enumerate(members):
        mine = states[f"learner.{learner}"]["parameters"]
        assert np.linalg.norm(mine - member) / np.linalg.norm(member) < 0.01
        assert not np.array_equal(mine, states["root"]["parameters"])


async def test_runs_are_equal_bit_for_bit() -> None:
    for config in ({}, {"rule": "elastic"}):
        one, other = await by_actors(**config), await by_actors(**config)
        for name in ("root", "learner.0", "learner.1"):
            assert one[name]["parameters"].tobytes() == other[name]["parameters"].tobytes()
