"""Optimizers on a flat vector, against torch.optim, and against the papers' formulas in plain numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from actorq.learning.agent import Agent
from actorq.learning.optimizers import Optimizer, clip_gradient_norm, make_optimizer

AGENTS = {
    "adam": Agent(learning_rate=0.01, dtype="float64"),
    "adam, own settings": Agent(learning_rate=0.02, adam_betas=(0.8, 0.95), optimizer_epsilon=1e-4),
    "rmsprop": Agent(learning_rate=0.01, optimizer="rmsprop"),
    "rmsprop, own settings": Agent(
        learning_rate=0.02, optimizer="rmsprop", rmsprop_decay=0.8, optimizer_epsilon=1e-3
    ),
}
agents = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS.keys())


def oracle(agent: Agent, parameter: Tensor) -> torch.optim.Optimizer:
    if agent.optimizer == "adam":
        betas = agent.adam_betas or (0.9, 0.999)
        return torch.optim.Adam(
            [parameter], agent.learning_rate, betas, agent.optimizer_epsilon or 1e-8, fused=False
        )
    return torch.optim.RMSprop(
        [parameter],
        agent.learning_rate,
        alpha=agent.rmsprop_decay or 0.95,
        eps=agent.optimizer_epsilon or 0.01,
        centered=True,
    )


def problem(size: int = 33) -> tuple[Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, dtype=torch.float64, generator=generator)
    return vector, torch.zeros_like(vector), generator


def walk(optimizer: Optimizer, gradient: Tensor, generator: torch.Generator, steps: int) -> None:
    for _ in range(steps):
        gradient.normal_(generator=generator)
        optimizer.step()


@agents
def test_steps_are_those_of_torch(agent: Agent) -> None:
    vector, gradient, generator = problem()
    reference = vector.clone().requires_grad_()
    optimizer, expected = make_optimizer(agent, vector, gradient), oracle(agent, reference)
    for _ in range(50):
        gradient.normal_(generator=generator)
        reference.grad = gradient.clone()
        optimizer.step()
        expected.step()
        # Coefficients may pass through float32 in a kernel; a wrong formula is off by far more.
        torch.testing.assert_close(vector, reference.detach(), rtol=1e-6, atol=1e-8)


def test_adam_is_algorithm_1_of_its_paper() -> None:
    vector, gradient, generator = problem()
    theta, mean, square = vector.numpy().copy(), np.zeros(33), np.zeros(33)
    optimizer = make_optimizer(Agent(learning_rate=0.01), vector, gradient)
    for t in range(1, 20):
        g = gradient.normal_(generator=generator).numpy().copy()
        optimizer.step()
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        theta -= 0.01 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(vector.numpy(), theta, rtol=1e-6)


@agents
def test_a_state_continues_bit_for_bit(agent: Agent) -> None:
    vector, gradient, generator = problem()
    optimizer = make_optimizer(agent, vector, gradient)
    walk(optimizer, gradient, generator, 10)
    state, resumed, at = optimizer.state(), vector.clone(), generator.get_state()
    walk(optimizer, gradient, generator, 5)
    again = make_optimizer(agent, resumed, gradient)
    again.load_state(state)
    walk(again, gradient, generator.set_state(at), 5)
    assert torch.equal(resumed, vector)
    assert all(isinstance(value, str | int | np.ndarray) for value in state.values())


def test_a_state_of_another_kind_or_size_is_refused_whole() -> None:
    vector, gradient, generator = problem()
    adam = make_optimizer(Agent(), vector, gradient)
    rmsprop = make_optimizer(Agent(optimizer="rmsprop"), vector, gradient)
    small = make_optimizer(Agent(), vector[:5], gradient[:5])
    walk(adam, gradient, generator, 3)
    before = adam.state()
    with pytest.raises(ValueError, match="'rmsprop'"):
        adam.load_state(rmsprop.state())
    with pytest.raises(ValueError, match=r"\(5,\)"):
        adam.load_state(small.state())
    np.testing.assert_array_equal(adam.state()["mean"], before["mean"])
    assert adam.state()["updates"] == 3


def test_a_shard_is_stepped_alone() -> None:
    vector, gradient, generator = problem()
    before = vector.clone()
    walk(make_optimizer(Agent(), vector[10:20], gradient[10:20]), gradient, generator, 3)
    changed = vector != before
    assert changed[10:20].all()
    assert not changed[:10].any()
    assert not changed[20:].any()


def test_centered_rmsprop_survives_a_constant_gradient() -> None:
    vector = torch.zeros(1000)
    gradient = torch.linspace(0.1, 10.0, 1000)
    optimizer = make_optimizer(Agent(optimizer="rmsprop"), vector, gradient)
    for _ in range(2000):  # E[g^2] - E[g]^2 is 0 up to rounding, of either sign
        optimizer.step()
    assert torch.isfinite(vector).all()


def test_the_learning_rate_may_change_between_steps() -> None:
    vector, gradient, generator = problem()
    optimizer = make_optimizer(Agent(), vector, gradient)
    optimizer.learning_rate = 0.0
    before = vector.clone()
    walk(optimizer, gradient, generator, 1)
    assert torch.equal(vector, before)


def test_clipping_scales_only_what_is_too_long() -> None:
    gradient = torch.tensor([3.0, 4.0])
    assert clip_gradient_norm(gradient, 10.0) == pytest.approx(5.0)
    assert gradient.tolist() == [3.0, 4.0]
    assert clip_gradient_norm(gradient, 1.0) == pytest.approx(5.0)
    assert gradient.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_is_reported(bad: float) -> None:
    gradient = torch.tensor([1.0, bad])
    assert not np.isfinite(clip_gradient_norm(gradient, 1.0))
    assert gradient[0] == 1.0
