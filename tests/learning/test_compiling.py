"""Compiled networks learn what the others learn, but for rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from actorq.envs.make import describe
from actorq.envs.task import Task
from actorq.learning import compiling
from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.compiling import Compile, compiled, missing_compiler
from actorq.learning.networks.factory import make_task_parameters
from actorq.learning.optimizers import make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.replay.chunk import Batch

CARTPOLE, ACROBOT = describe(Task(env="CartPole-v1")), describe(Task(env="Acrobot-v1"))
MLP = Agent(hidden=(16, 16), learning_rate=1e-3)
DUELING = Agent(hidden=(16, 16), dueling=True, dqn=DQN.Config(double=False), learning_rate=1e-3)
UPDATES = 20

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
compiler = pytest.mark.skipif(missing_compiler() is not None, reason="this machine has no C++ compiler")


def batch(spaces: Any, rows: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (rows, *spaces.observation_shape)
    return Batch(
        ids=np.arange(rows),
        observations=rng.normal(size=shape).astype(spaces.dtype),
        actions=rng.integers(0, spaces.actions, rows),
        returns=rng.normal(size=rows).astype(np.float32),
        discounts=rng.choice(np.asarray([0.0, 0.97], np.float32), rows),
        next_observations=rng.normal(size=shape).astype(spaces.dtype),
        weights=rng.uniform(0.5, 1.0, rows).astype(np.float32),
        probabilities=np.full(rows, 1 / 64),
    )


def learned(
    agent: Agent, tasks: list[Any], rows: list[int], mode: Compile, device: str
) -> tuple[torch.Tensor, list[float]]:
    """Parameters and losses after updates with batches of these sizes in turn."""
    online = make_task_parameters(agent, tasks, 3, torch.device(device))
    target = TargetNetwork(agent, online)
    rule = LearningRule(agent, online, target.parameters, mode)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    losses = []
    for number in range(1, UPDATES + 1):
        size = rows[number % len(rows)]
        losses.append(rule(*(batch(spaces, size, number) for spaces in tasks)).loss)
        optimizer.step()
        target.follow(number)
    return online.vector.cpu().clone(), losses


def assert_equal_but_for_rounding(
    agent: Agent, tasks: list[Any], rows: list[int], mode: Compile, device: str
) -> None:
    torch.compiler.reset()  # others' shapes count towards a limit, beyond which nothing is compiled
    plain, losses = learned(agent, tasks, rows, "off", device)
    vector, found = learned(agent, tasks, rows, mode, device)
    torch.testing.assert_close(vector, plain, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, losses, rtol=1e-4)


@compiler
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("agent", "tasks", "rows"),
    [
        pytest.param(MLP, [CARTPOLE], [16], id="mlp"),
        pytest.param(DUELING, [CARTPOLE], [16, 5, 9], id="batches of several sizes"),
        pytest.param(MLP, [CARTPOLE, ACROBOT], [8], id="two tasks"),
    ],
)
def test_compiled_it_learns_the_same(agent: Agent, tasks: list[Any], rows: list[int]) -> None:
    assert_equal_but_for_rounding(agent, tasks, rows, "default", "cpu")
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] > 0, "something was compiled"


@cuda
@compiler
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("tasks", [[CARTPOLE], [CARTPOLE, ACROBOT]], ids=["one task", "two tasks"])
def test_on_cuda_too(mode: Compile, tasks: list[Any]) -> None:
    assert_equal_but_for_rounding(MLP, tasks, [16], mode, "cuda")


def test_off_is_the_module_itself() -> None:
    module = torch.nn.Linear(2, 2)
    assert compiled(module, "off") is module


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiling, "which", lambda name: "/usr/bin/clang++" if name == "clang++" else None)
    assert missing_compiler() is None
    monkeypatch.setattr(compiling, "which", lambda name: None)
    assert "g++ is not found" in (missing_compiler() or "")
    monkeypatch.setenv("CXX", "icpx")
    assert "icpx is not found" in (missing_compiler() or "")
