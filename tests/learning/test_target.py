"""When the target network follows, and how far."""

import numpy as np
import torch

from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_parameters
from actorq.learning.target import TargetNetwork


def test_a_copy_every_so_many_updates() -> None:
    agent = Agent(hidden=(4,), target_every_updates=3)
    online = make_parameters(agent, (2,), "float32", 2, seed=0)
    target = TargetNetwork(agent, online)
    assert torch.equal(target.parameters.vector, online.vector), "begins equal"
    copied = []
    for updates in range(1, 8):
        online.vector.fill_(updates)
        if target.follow(updates):
            copied.append(updates)
        assert (target.parameters.vector == 3 * (updates // 3)).all() or updates < 3
    assert copied == [3, 6]
    assert target.parameters.vector.data_ptr() != online.vector.data_ptr()
    target.parameters.check()


def test_polyak_goes_a_fraction_of_the_way() -> None:
    agent = Agent(hidden=(4,), polyak=0.25, dtype="float64")
    online = make_parameters(agent, (2,), "float32", 2, seed=0)
    target = TargetNetwork(agent, online)
    start = target.parameters.read()
    online.vector.zero_()
    assert target.follow(1)
    np.testing.assert_allclose(target.parameters.read(), 0.75 * start, rtol=1e-12)
    assert target.follow(2)
    np.testing.assert_allclose(target.parameters.read(), 0.75**2 * start, rtol=1e-12)


def test_state_round_trip() -> None:
    agent = Agent(hidden=(4,))
    online = make_parameters(agent, (2,), "float32", 2, seed=0)
    first, second = TargetNetwork(agent, online), TargetNetwork(agent, online)
    first.parameters.vector.fill_(7.0)
    second.load_state(first.state())
    second.parameters.check()
    assert (second.parameters.read() == 7.0).all()
    assert not (online.read() == 7.0).any()
