"""PopArt: Q stays as it was while statistics move, and what is learned is the normalized loss's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from actorq.learning.agent import Agent
from actorq.learning.algorithms import BatchLoss
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.networks.factory import make_task_parameters
from actorq.learning.networks.flat import FlatParameters
from actorq.learning.popart import BETA, LEAST, PopArt, Statistics
from actorq.learning.update import LearningRule

from .networks.test_multi_task import Task
from .test_update import Batch, draw

TASKS = (Task((4,), 3), Task((2, 3), 3))


def setting(agent: Agent, adaptive: dict[int, str]) -> tuple[FlatParameters, FlatParameters, PopArt]:
    tasks = TASKS if len(adaptive) != 1 or 1 in adaptive else TASKS[:1]
    online, target = (make_task_parameters(agent, tasks, seed) for seed in (1, 2))
    return online, target, PopArt(agent, tasks, adaptive, online, target)


def moved(popart: PopArt, name: str, *targets: float) -> None:
    """By a batch with these targets, in units of reward."""
    task, none = {"one": 0, "a": 0, "b": 1, "c": 1}[name], torch.zeros(0)
    normalized = (torch.tensor(targets, dtype=torch.float64) - popart.state()[name][0]) / popart.scales()[
        name
    ]
    popart.noted(task, BatchLoss(none, none, none, normalized))
    popart.move()


class Pairs(DQN):
    """Two outputs for each action, as of an algorithm that learns a distribution."""

    outputs_per_action = 2


@pytest.mark.parametrize("algorithm", [DQN, Pairs])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("adaptive", [{0: "one"}, {1: "b"}, {0: "a", 1: "b"}])
def test_outputs_stay_as_they_were(
    adaptive: dict[int, str], dueling: bool, algorithm: type[DQN], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "make_algorithm", lambda agent: algorithm(agent.settings))
    agent = Agent(hidden=(7, 6), dueling=dueling, dtype="float64")
    online, target, popart = setting(agent, adaptive)
    begun = popart.read(online), popart.read(target)
    np.testing.assert_array_equal(begun[0], online.read())  # mean 0 and scale 1
    for step in range(200):
        for task, name in adaptive.items():
            moved(popart, name, 40.0 + step, 60.0, -3.0 * task)
    assert min(popart.scales().values()) > 5
    for parameters, before in zip((online, target), begun, strict=True):
        assert np.abs(parameters.read() - before).max() > 0.1, "inside they are others"
        np.testing.assert_allclose(popart.read(parameters), before, rtol=1e-9, atol=1e-9)


def test_what_is_written_is_read() -> None:
    online, _, popart = setting(Agent(hidden=(7, 6), dueling=True), {0: "a", 1: "b"})
    for _ in range(50):
        moved(popart, "b", 500.0, -300.0)
    plainly = np.linspace(-1, 1, online.size).astype(np.float32)
    popart.write(online, plainly)
    np.testing.assert_allclose(popart.read(online), plainly, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="one number per parameter"):
        popart.write(online, plainly[1:])


def test_statistics_are_moving_averages_within_bounds() -> None:
    _, _, popart = setting(Agent(hidden=(7, 6), dtype="float64"), {0: "a", 1: "b"})
    mean, square = 0.0, 1.0
    batches = np.random.default_rng(0).normal(30.0, 7.0, (20, 8))
    for batch in batches:
        moved(popart, "b", *batch)
        mean += BETA * (batch.mean() - mean)
        square += BETA * ((batch**2).mean() - square)
    np.testing.assert_allclose(popart.state()["b"], [mean, square])
    assert popart.state()["a"] == [0.0, 1.0]
    assert Statistics(5.0, 25.0).scale == LEAST


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_gradient_is_that_of_normalized_errors(loss: Any, dueling: bool, double: bool) -> None:
    """The twin: a plain network, its errors divided by the scale. Below the heads, gradients are alike."""
    agent = Agent(hidden=(7, 6), dtype="float64", dqn=DQN.Config(loss=loss, double=double), dueling=dueling)
    online, target, popart = setting(agent, {0: "one"})
    for _ in range(500):
        moved(popart, "one", 30.0, -4.0, 1.0)
    (mean, _), scale = popart.state()["one"], popart.scales()["one"]
    assert abs(mean) > 0.01
    batch = draw(9, (4,))
    twins = [make_task_parameters(agent, TASKS[:1], 0) for _ in range(2)]
    for twin, parameters in zip(twins, (online, target), strict=True):
        twin.write(popart.read(parameters))
    small = textbook_loss(batch, twins, agent, scale)
    learned = LearningRule(agent, online, target, popart=popart)(batch)
    assert learned.loss == pytest.approx(small.item(), rel=1e-6)
    (by_itself,) = torch.autograd.grad(small, [next(twins[0].module.parameters())])
    own = next(online.module.parameters()).grad
    torch.testing.assert_close(own, by_itself, rtol=1e-6, atol=1e-9)
    in_rewards = LearningRule(agent, twins[0], twins[1])(batch).priorities
    np.testing.assert_allclose(learned.priorities, in_rewards, rtol=1e-5, atol=1e-6)


def textbook_loss(batch: Batch, twins: list[FlatParameters], agent: Agent, scale: float) -> torch.Tensor:
    """The loss as a textbook writes it, of plain networks, its errors divided by the scale."""
    rows = range(len(batch.actions))

    def q(parameters: FlatParameters, observations: np.ndarray[Any, Any]) -> torch.Tensor:
        found: torch.Tensor = parameters.module(torch.from_numpy(observations.astype(np.float64)))
        return found

    with torch.no_grad():
        later = q(twins[1], batch.next_observations)
        greedy = q(twins[0] if agent.dqn.double else twins[1], batch.next_observations).argmax(1)
        returns, discounts = (torch.from_numpy(it.copy()) for it in (batch.returns, batch.discounts))
        targets = returns + discounts * later[rows, greedy]
    now = q(twins[0], batch.observations)[rows, batch.actions.copy()]
    errors = (now - targets) / scale
    zero = torch.zeros_like(errors)
    kind = "huber_loss" if agent.dqn.loss == "huber" else "mse_loss"
    losses = getattr(torch.nn.functional, kind)(errors, zero, reduction="none")
    weights = torch.from_numpy(batch.weights.copy())
    loss: torch.Tensor = (weights * losses * (1.0 if agent.dqn.loss == "huber" else 0.5)).mean()
    return loss


def test_without_adaptive_tasks_nothing_changes() -> None:
    agent = Agent(hidden=(7, 6), dtype="float64")
    online, target, popart = setting(agent, {})
    batches = draw(5, (4,)), draw(3, (2, 3), seed=1)
    learned = LearningRule(agent, online, target, popart=popart)(*batches)
    gradient, before = online.gradient.clone(), online.read()
    popart.move()
    again = LearningRule(agent, online, target)(*batches)
    assert torch.equal(gradient, online.gradient)
    assert learned.loss == again.loss
    np.testing.assert_array_equal(online.read(), before)
    assert popart.state() == {}


def test_a_task_that_was_there_goes_on_with_its_statistics() -> None:
    agent = Agent(hidden=(7, 6))
    _, _, popart = setting(agent, {0: "a", 1: "b"})
    moved(popart, "b", 9.0)
    _, _, later = setting(agent, {0: "b", 1: "c"})
    later.load_state(popart.state())
    assert later.state() == {"b": popart.state()["b"], "c": [0.0, 1.0]}
