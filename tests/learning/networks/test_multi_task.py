"""A network of several tasks: each task's part of it is an ordinary network, and they learn together."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.networks.factory import make_parameters, make_task_parameters
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.networks.task_layout import TaskLayout
from actorq.learning.update import LearningRule
from tests.learning.test_update import Batch, draw

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Task:
    observation_shape: tuple[int, ...]
    actions: int
    dtype: np.dtype[np.generic] = FLOAT32


VECTORS = (Task((4,), 3), Task((2, 3), 5), Task((1,), 3))
PICTURES = (Task((4, 7, 8), 3, np.dtype(np.uint8)), Task((6, 5, 5), 6, np.dtype(np.uint8)))
AGENTS = [
    (Agent(hidden=(7, 6, 5)), VECTORS),
    (Agent(hidden=(7, 6), dueling=True), VECTORS),
    (Agent(network="minatar_cnn", hidden=(9, 8)), PICTURES),
    (Agent(network="minatar_cnn", hidden=(9, 8, 4), dueling=True), PICTURES),
    (Agent(network="nature_cnn", hidden=(9, 8)), (Task((4, 36, 40), 3), Task((2, 44, 36), 4))),
]


def observations(task: Task, rows: int) -> np.ndarray:
    rng = np.random.default_rng(len(task.observation_shape))
    return rng.integers(256, size=(rows, *task.observation_shape)).astype(task.dtype)


@pytest.mark.parametrize(("agent", "tasks"), AGENTS)
def test_each_task_acts_with_an_ordinary_network(agent: Agent, tasks: tuple[Task, ...]) -> None:
    parameters = make_task_parameters(agent, tasks, seed=3)
    layout = TaskLayout(agent, tasks)
    assert layout.size == parameters.size
    seen = [observations(task, 5) for task in tasks]
    scale = 1 / 255 if tasks[0].dtype == np.uint8 else 1.0
    with torch.no_grad():
        inputs = [torch.from_numpy(rows.astype(np.float32)) * scale for rows in seen]
        together = parameters.module(inputs, [5] * len(tasks))
    for number, task in enumerate(tasks):
        policy = make_policy(agent, task.observation_shape, task.dtype, task.actions)
        policy.load(layout.part(parameters.read(), number))
        np.testing.assert_allclose(
            policy.q_values(seen[number]), together[number].numpy(), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("double", [True, False])
def test_the_gradient_is_that_of_the_mean_over_all_tasks(double: bool) -> None:
    agent = Agent(hidden=(7, 6), dtype="float64", dqn=DQN.Config(double=double, loss="squared"))
    tasks = (Task((4,), 3), Task((2, 3), 3))
    online, target = (make_task_parameters(agent, tasks, seed) for seed in (1, 2))
    batches = draw(5, (4,)), draw(3, (2, 3), seed=1)
    learned = LearningRule(agent, online, target)(*batches)
    assert learned.priorities.shape == (8,)
    whole = online.gradient.clone()
    parts = torch.zeros_like(whole)
    losses = 0.0
    rule = LearningRule(agent, online, target)
    for alone in ((batches[0], None), (None, batches[1])):
        found = rule(*alone)
        rows = len(found.priorities)
        parts += online.gradient * rows / 8
        losses += found.loss * rows / 8
    torch.testing.assert_close(whole, parts)
    assert learned.loss == pytest.approx(losses)


def test_a_task_alone_learns_as_its_own_network_does() -> None:
    agent, tasks = Agent(hidden=(7, 6), dtype="float64"), (Task((4,), 3), Task((2, 3), 3))
    layout, batch = TaskLayout(agent, tasks), draw(5, (4,))
    shared, target = (make_task_parameters(agent, tasks, seed) for seed in (1, 2))
    alone, its_target = (make_parameters(agent, (4,), np.float32, 3, seed) for seed in (1, 2))
    alone.write(layout.part(shared.read(), 0))
    its_target.write(layout.part(target.read(), 0))
    together = LearningRule(agent, shared, target)(batch, None)
    by_itself = LearningRule(agent, alone, its_target)(batch)
    np.testing.assert_allclose(together.priorities, by_itself.priorities, rtol=1e-6)
    np.testing.assert_allclose(layout.part(shared.gradient.numpy(), 0), alone.gradient.numpy(), rtol=1e-9)
    others = [layout.encoders[1], layout.heads[1]]
    assert all(not shared.gradient[part].any() for part in others)


def test_a_new_task_takes_over_what_is_shared() -> None:
    agent = Agent(hidden=(7, 6))
    old, new = VECTORS[:2], (VECTORS[2], VECTORS[1], VECTORS[0])
    before, after = make_task_parameters(agent, old, 0).read(), make_task_parameters(agent, new, 1).read()
    then, now = TaskLayout(agent, old), TaskLayout(agent, new)
    adopted = now.adopt(after, before, then, {2: 0, 1: 1})
    np.testing.assert_array_equal(now.part(adopted, 2), then.part(before, 0))
    np.testing.assert_array_equal(now.part(adopted, 1), then.part(before, 1))
    np.testing.assert_array_equal(adopted[now.encoders[0]], after[now.encoders[0]])
    np.testing.assert_array_equal(adopted[now.heads[0]], after[now.heads[0]])
    with pytest.raises(ValueError, match="spaces"):
        now.adopt(after, before, then, {0: 0})


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        make_task_parameters(Agent(hidden=(7,)), VECTORS, 0)
    with pytest.raises(ValueError, match="two or more"):
        TaskLayout(Agent(hidden=(7,)), VECTORS)
    with pytest.raises(ValueError, match="made for one task"):
        make_task_parameters(Agent(network="tests.learning.custom:Tanh"), VECTORS, 0)
    with pytest.raises(ValueError, match="pictures"):
        TaskLayout(replace_network("minatar_cnn"), VECTORS)


def replace_network(network: str) -> Agent:
    return Agent(network=network, hidden=(7, 6))


def test_batches_of_the_wrong_task_are_refused() -> None:
    agent, tasks = Agent(hidden=(7, 6)), (Task((4,), 3), Task((2, 3), 3))
    online, target = (make_task_parameters(agent, tasks, seed) for seed in (1, 2))
    batch: Batch = replace(draw(5, (4,)))
    with pytest.raises((RuntimeError, ValueError)):
        LearningRule(agent, online, target)(None, batch)
