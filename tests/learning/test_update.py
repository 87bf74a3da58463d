"""The learning rule: against autograd, against finite differences, and by hand."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN, huber, squared
from actorq.learning.networks.backends import AutogradBackend, MLPBackend, make_backend
from actorq.learning.networks.factory import make_parameters
from actorq.learning.networks.flat import FlatParameters
from actorq.learning.staging import TransitionBatch
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule

ACTIONS = 3


@dataclass(frozen=True)
class Batch:
    observations: NDArray[Any]
    actions: NDArray[np.int64]
    returns: NDArray[np.float32]
    discounts: NDArray[np.float32]
    next_observations: NDArray[Any]
    weights: NDArray[np.float32]


def draw(size: int, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Batch:
    """Random transitions, read-only as they come in messages; returns wide enough for both parts of Huber."""
    generator = np.random.default_rng(seed)

    def observations() -> NDArray[Any]:
        if dtype in ("float32", "float64"):
            return generator.normal(size=(size, *shape)).astype(dtype)
        return generator.integers(2 if dtype == "bool" else 256, size=(size, *shape)).astype(dtype)

    batch = Batch(
        observations(),
        generator.integers(ACTIONS, size=size),
        generator.normal(scale=2.0, size=size).astype(np.float32),
        np.where(generator.random(size) < 0.3, 0.0, 0.97).astype(np.float32),
        observations(),
        generator.uniform(0.1, 1.0, size).astype(np.float32),
    )
    for array in vars(batch).values():
        array.flags.writeable = False
    return batch


def setting(
    agent: Agent, shape: tuple[int, ...], dtype: str = "float32"
) -> tuple[FlatParameters, FlatParameters]:
    """An online network and a target network that differ."""
    online = make_parameters(agent, shape, dtype, ACTIONS, seed=1)
    target = TargetNetwork(agent, online).parameters
    target.write(make_parameters(agent, shape, dtype, ACTIONS, seed=2).read())
    return online, target


def plain(
    agent: Agent, online: FlatParameters, target: FlatParameters, batch: TransitionBatch
) -> torch.Tensor:
    """The loss as a textbook writes it, with torch's own functions; a graph for autograd."""
    dtype = online.dtype

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        made = torch.from_numpy(array.copy()).to(dtype)
        return made / 255.0 if array.dtype == np.uint8 else made

    rows = range(len(batch.actions))
    with torch.no_grad():
        next_q = target.module(tensor(batch.next_observations))
        chooser = online if agent.dqn.double else target
        greedy = chooser.module(tensor(batch.next_observations)).argmax(1)
        targets = tensor(batch.returns) + tensor(batch.discounts) * next_q[rows, greedy]
    q_values = online.module(tensor(batch.observations))[rows, batch.actions.copy()]
    if agent.dqn.loss == "huber":
        losses = torch.nn.functional.huber_loss(q_values, targets, reduction="none")
    else:
        losses = 0.5 * (q_values - targets) ** 2
    return (tensor(batch.weights) * losses).mean()


CASES = [
    ("mlp", (4,), "float32", False),
    ("mlp", (2, 3), "uint8", False),
    ("mlp", (4,), "bool", True),
    ("mlp", (4,), "int64", False),
    ("minatar_cnn", (2, 5, 5), "bool", False),
    ("nature_cnn", (2, 36, 36), "uint8", True),
    ("tests.learning.custom:Tanh", (4,), "float64", False),
]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize(("network", "shape", "dtype", "dueling"), CASES)
def test_loss_and_gradient_are_those_of_autograd(
    network: str, shape: tuple[int, ...], dtype: str, dueling: bool, loss: Any, double: bool
) -> None:
    hidden = None if network.startswith("tests") else (8, 6)
    agent = Agent(
        network=network,
        hidden=hidden,
        dueling=dueling,
        dqn=DQN.Config(loss=loss, double=double),
        dtype="float64",
    )
    online, target = setting(agent, shape, dtype)
    rule = LearningRule(agent, online, target)
    parameters = online.read()
    for size, seed in ((16, 0), (16, 1), (5, 2)):  # buffers are used again, and made anew for another size
        batch = draw(size, shape, dtype, seed)
        expected = plain(agent, online, target, batch)
        gradients = torch.autograd.grad(expected, list(online.module.parameters()))
        online.gradient.fill_(77.0)  # the rule overwrites what it finds
        learned = rule(batch)
        assert learned.loss == pytest.approx(expected.item(), rel=1e-12)
        found = online.gradient
        torch.testing.assert_close(found, torch.cat([g.flatten() for g in gradients]), rtol=1e-9, atol=1e-14)
    online.check()
    np.testing.assert_array_equal(online.read(), parameters, "the rule changes no parameters")


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_the_gradient_is_the_derivative_of_the_loss(loss: Any, dueling: bool) -> None:
    agent = Agent(hidden=(6, 5), dueling=dueling, dqn=DQN.Config(loss=loss, double=False), dtype="float64")
    online, target = setting(agent, (3,))
    rule, batch = LearningRule(agent, online, target), draw(12, (3,), "float64")
    rule(batch)
    gradient, at, step = online.gradient.clone(), online.read(), 1e-6

    def loss_at(index: int, offset: float) -> float:
        moved = at.copy()
        moved[index] += offset
        online.write(moved)
        return rule(batch).loss

    derivatives = [(loss_at(i, step) - loss_at(i, -step)) / (2 * step) for i in range(online.size)]
    np.testing.assert_allclose(gradient.numpy(), derivatives, rtol=1e-5, atol=1e-8)


def table(agent: Agent) -> tuple[FlatParameters, FlatParameters]:
    """A linear Q over two one-hot states: online Q(s1) = [1, 2, 0], target Q(s1) = [5, 3, 4]; Q(s0) = 0."""
    online, target = setting(agent, (2,))
    for parameters, q_values in ((online, [1.0, 2.0, 0.0]), (target, [5.0, 3.0, 4.0])):
        weights = np.stack([np.zeros(3), np.array(q_values)], axis=1)
        parameters.write(np.concatenate([weights.ravel(), np.zeros(3)]).astype(np.float32))
    return online, target


@pytest.mark.parametrize(("double", "value"), [(False, 5.0), (True, 3.0)])
def test_targets_by_hand(double: bool, value: float) -> None:
    agent = Agent(hidden=(), dqn=DQN.Config(double=double))
    states = np.eye(2, dtype=np.float32)
    batch = Batch(
        observations=states[[0, 0, 1]],
        actions=np.array([0, 1, 2]),
        returns=np.array([0.5, -10.0, 0.25], np.float32),
        discounts=np.array([0.9, 0.0, 0.5], np.float32),  # the second window ended in termination
        next_observations=states[[1, 1, 1]],
        weights=np.array([1.0, 0.5, 2.0], np.float32),
    )
    online, target = table(agent)
    learned = LearningRule(agent, online, target)(batch)
    errors = [0.5 + 0.9 * value, -10.0, 0.25 + 0.5 * value]
    np.testing.assert_allclose(learned.priorities, np.abs(errors), rtol=1e-6)
    # All three lie beyond Huber's threshold: loss |d| - 1/2, slope 1, and the weight outside the clip.
    losses = [1.0 * (abs(errors[0]) - 0.5), 0.5 * 9.5, 2.0 * (errors[2] - 0.5)]
    assert learned.loss == pytest.approx(sum(losses) / 3, rel=1e-6)
    bias_gradient = online.gradient[-3:].tolist()
    assert bias_gradient == pytest.approx([-1.0 / 3, 0.5 / 3, -2.0 / 3], rel=1e-6)


def test_losses_at_known_points() -> None:
    errors = torch.tensor([0.0, 0.5, -1.0, 3.0, -3.0])
    losses, derivatives = huber(errors)
    assert losses.tolist() == [0.0, 0.125, 0.5, 2.5, 2.5]
    assert derivatives.tolist() == [0.0, 0.5, -1.0, 1.0, -1.0]
    losses, derivatives = squared(errors)
    assert losses.tolist() == [0.0, 0.125, 0.5, 4.5, 4.5]
    assert derivatives.tolist() == errors.tolist()


def test_what_is_returned_is_not_overwritten_by_the_next_call() -> None:
    agent = Agent(hidden=(4,))
    rule = LearningRule(agent, *setting(agent, (3,)))
    first = rule(draw(6, (3,), seed=0))
    kept = first.priorities.copy()
    rule(draw(6, (3,), seed=1))
    np.testing.assert_array_equal(first.priorities, kept)
    assert kept.dtype == np.float32


def test_a_batch_that_does_not_fit_is_refused() -> None:
    agent = Agent(hidden=(4,))
    rule = LearningRule(agent, *setting(agent, (3,)))
    batch = draw(6, (3,))
    with pytest.raises(RuntimeError, match="out of bounds"):
        rule(replace(batch, actions=np.full(6, ACTIONS)))
    with pytest.raises(TypeError, match="int64"):
        rule(replace(batch, actions=np.zeros(6)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broadcast"):
        rule(replace(batch, next_observations=np.zeros((6, 4), np.float32)))
    with pytest.raises(RuntimeError):
        rule(replace(batch, weights=batch.weights[:5]))


def test_each_network_gets_its_pass() -> None:
    def chosen(agent: Agent) -> type:
        return type(make_backend(make_parameters(agent, (4,), "float32", ACTIONS, seed=0)))

    assert chosen(Agent()) is MLPBackend
    assert chosen(Agent(dueling=True)) is AutogradBackend
    assert chosen(Agent(network="tests.learning.custom:Tanh")) is AutogradBackend


@pytest.mark.parametrize("dueling", [False, True])
def test_a_forward_pass_is_good_for_one_backward_pass(dueling: bool) -> None:
    parameters = make_parameters(Agent(dueling=dueling), (4,), "float32", ACTIONS, seed=0)
    network = make_backend(parameters)
    with torch.no_grad():
        network.evaluate([torch.rand(2, 4)])
        with pytest.raises(RuntimeError, match="forward pass"):
            network.backward([torch.ones(2, ACTIONS)])
        network.forward([torch.rand(2, 4)], [2])
        network.backward([torch.ones(2, ACTIONS)])
        with pytest.raises(RuntimeError, match="forward pass"):
            network.backward([torch.ones(2, ACTIONS)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_cuda_finds_what_the_cpu_finds(dtype: str) -> None:
    agent = Agent(hidden=(8,), dtype="float64")
    online, target = setting(agent, (4,), dtype)
    on_cuda = make_parameters(agent, (4,), dtype, ACTIONS, 1, "cuda")
    there = make_parameters(agent, (4,), dtype, ACTIONS, 2, "cuda")
    batch = draw(16, (4,), dtype)
    expected, found = LearningRule(agent, online, target)(batch), LearningRule(agent, on_cuda, there)(batch)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    torch.testing.assert_close(on_cuda.gradient.cpu(), online.gradient, rtol=1e-9, atol=1e-12)
