"""Conformance kit for algorithms: what every member of the Q family has to do, tried without actors.

In the tests of a package that offers the algorithm `qr_dqn`:

    def test_contract():
        algorithm_contract.check_algorithm("qr_dqn", {"quantiles": 8})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actorq.learning.agent import Agent
from actorq.learning.algorithms import Algorithm, Outputs
from actorq.learning.algorithms.registry import installed_algorithms
from actorq.learning.networks.factory import make_parameters
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.optimizers import make_optimizer
from actorq.learning.staging import StagedBatch
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule

STATES, GAMMA = 5, 0.9
"""The chain: one step to the left or right; a step to the right in the last state ends the episode with
reward 1."""

LINEAR: dict[str, Any] = {
    "hidden": (),
    "gamma": GAMMA,
    "n_step": 1,
    "learning_rate": 0.03,
    "optimizer_epsilon": 1e-3,
    "target_every_updates": 25,
    "dtype": "float64",
}
"""`[agent]` of a table of Q-values: a linear network on one-hot observations."""

UPDATES = 3000


class ChainBatch(NamedTuple):
    """All transitions of the chain, see `TransitionBatch`; observations are one-hot."""

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    returns: NDArray[np.float32]
    discounts: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    weights: NDArray[np.float32]


def check_algorithm(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    expected: NDArray[np.floating[Any]] | None = None,
    updates: int = UPDATES,
    tolerance: float = 0.01,
) -> None:
    """Raises AssertionError for the first rule of `Algorithm` that an installed algorithm breaks.

    `settings`: those of `[agent.NAME]`. On a chain of states, see `chain`, the learned Q-values must come
    within `tolerance` of `expected` [STATES, 2] after `updates` updates with the whole chain as a batch, on
    one thread; that takes seconds. By default these are the optimal ones: an algorithm of another fixed point
    (soft, regularized or risk-averse) gives its own.
    """
    cls = installed_algorithms().get(name)
    assert isinstance(cls, type), f"{name}: {cls or 'no such entry point in actorq.algorithms'}"
    try:
        config = msgspec.convert(settings or {}, cls.Config)
    except msgspec.ValidationError as error:
        raise AssertionError(f"{name} has no such settings: {error}") from error
    chosen: dict[str, Any] = {"algorithm": name, name: config}
    agent = Agent(**chosen, **LINEAR)
    assert not list(agent.problems()), f"{name} refuses its own settings: {list(agent.problems())}"
    algorithm = agent.make_algorithm()
    _check_q_values(algorithm)
    _check_loss(algorithm)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _check_chain(agent, updates, tolerance, optimal_values() if expected is None else expected)
    finally:
        torch.set_num_threads(threads)


def _check_q_values(algorithm: Algorithm) -> None:
    outputs = np.random.default_rng(0).normal(size=(7, 3, algorithm.outputs_per_action))
    found = algorithm.q_values(outputs)
    assert found.shape == (7, 3), f"q_values gives {found.shape} of outputs {outputs.shape}"
    by_torch = algorithm.q_values(torch.from_numpy(outputs)).numpy()
    np.testing.assert_allclose(found, by_torch, rtol=1e-6, atol=1e-9, err_msg="numpy and torch differ")


def _check_loss(algorithm: Algorithm) -> None:
    """Each transition has a loss of its own, and the gradient is that of the losses."""
    outputs, batch = _random(algorithm)
    now = outputs.now.requires_grad_()
    try:
        found = algorithm.loss(outputs._replace(now=now), batch)
    except (TypeError, AttributeError) as error:
        given = ", ".join(sorted(algorithm.needs)) or "nothing"
        raise AssertionError(
            f"loss fails when it is given what `needs` declares, {given}: {error}"
        ) from error
    rows = len(batch.actions)
    for what in ("losses", "priorities"):
        shape = tuple(getattr(found, what).shape)
        assert shape == (rows,), f"{what} are [B], one for each of {rows} transitions, not {list(shape)}"
    assert len(found.targets) == rows, f"targets are [B] or [B, n], not {list(found.targets.shape)}"
    assert bool((found.priorities >= 0).all()), "a priority is negative"
    assert (found.output_gradient is None) == algorithm.uses_autograd, (
        "output_gradient is None exactly where the class attribute uses_autograd is True"
    )
    (gradient,) = torch.autograd.grad(found.losses.sum(), now)
    assert gradient.isfinite().all(), "the gradient isn't finite"
    if found.output_gradient is not None:
        torch.testing.assert_close(found.output_gradient, gradient, msg="not the gradient of the losses")
    for row in range(rows):
        part = slice(row, row + 1)
        alone = algorithm.loss(
            Outputs(*(None if each is None else each[part] for each in outputs)),  # type: ignore[arg-type]
            StagedBatch._make([*(each[part] for each in batch[:5]), None]),
        )
        torch.testing.assert_close(alone.losses[0], found.losses[row], msg="a loss depends on other rows")


def _random(algorithm: Algorithm, rows: int = 6, actions: int = 3) -> tuple[Outputs, StagedBatch]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    outputs = [normal(rows, actions, algorithm.outputs_per_action) for _ in range(4)]
    kept = [
        each if need in algorithm.needs else None
        for need, each in zip(("online_next", "target_next", "target_now"), outputs[1:], strict=True)
    ]
    chosen = torch.randint(actions, (rows, 1), generator=generator)
    batch = StagedBatch(
        normal(rows, 1), chosen, normal(rows), normal(rows).sigmoid(), normal(rows).exp(), None
    )
    return Outputs(outputs[0], *kept), batch


def chain() -> ChainBatch:
    """Each state with both actions: 0 to the left, where the first state leads to itself, 1 to the right."""
    states, actions = np.repeat(np.arange(STATES), 2), np.tile([0, 1], STATES)
    after = np.clip(states + 2 * actions - 1, 0, STATES - 1)
    last = (states == STATES - 1) & (actions == 1)
    eye = np.eye(STATES, dtype=np.float32)
    return ChainBatch(
        eye[states],
        actions,
        last.astype(np.float32),
        np.where(last, 0.0, GAMMA).astype(np.float32),
        eye[after],
        np.ones(len(states), np.float32),
    )


def optimal_values() -> NDArray[np.float64]:
    """Q* [states, 2] of the chain, in closed form."""
    value = GAMMA ** np.arange(STATES, dtype=np.float64)[::-1]
    left = GAMMA * value[np.maximum(np.arange(STATES) - 1, 0)]
    return np.stack([left, value], axis=1)


def _check_chain(agent: Agent, updates: int, tolerance: float, expected: NDArray[np.floating[Any]]) -> None:
    online = make_parameters(agent, (STATES,), np.float32, 2, seed=0)
    target = TargetNetwork(agent, online)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    rule, batch = LearningRule(agent, online, target.parameters), chain()
    for update in range(1, updates + 1):
        rule(batch)
        optimizer.step()
        target.follow(update)
    policy = make_policy(agent, (STATES,), np.float32, 2)
    policy.load(online.read())
    found = policy.q_values(np.eye(STATES, dtype=np.float32))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg="Q-values of the chain")
