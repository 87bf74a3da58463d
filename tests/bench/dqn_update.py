"""Microseconds per update and per choice of actions, against DQN as usually written in torch.

The usual update is Stable-Baselines3's: tensors made from the batch, Huber's loss by autograd, clipping over
all parameters, torch.optim.Adam. One thread, CPU, an MLP with 4 inputs and 2 actions. Both learn on the same
batch by turns, and the fastest of many repeats counts, so that other load on the machine matters little.
"""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is first imported

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.learning.networks.factory import make_network, make_parameters
from actorq.learning.networks.numpy_acting import NumpyPolicy
from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule

SHAPE, ACTIONS, MAX_NORM = (4,), 2, 10.0


def ours(agent: Agent, batch: Any) -> Callable[[], None]:
    online = make_parameters(agent, SHAPE, "float32", ACTIONS, seed=0)
    target = TargetNetwork(agent, online)
    rule = LearningRule(agent, online, target.parameters)
    optimizer = make_optimizer(agent, online.vector, online.gradient)

    def update() -> None:
        rule(batch)
        clip_gradient_norm(online.gradient, MAX_NORM)
        optimizer.step()

    return update


def usual(agent: Agent, batch: Any) -> Callable[[], None]:
    online = make_network(agent, SHAPE, "float32", ACTIONS, seed=0)
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), agent.learning_rate)

    def update() -> None:
        observations, actions, returns, discounts, next_observations = map(
            torch.as_tensor,
            (batch.observations, batch.actions, batch.returns, batch.discounts, batch.next_observations),
        )
        with torch.no_grad():
            next_q = target(next_observations)
            if agent.dqn.double:
                values = next_q.gather(1, online(next_observations).argmax(1, keepdim=True)).squeeze(1)
            else:
                values = next_q.max(1)[0]
            targets = returns + discounts * values
        q_values = online(observations).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(q_values, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(online.parameters(), MAX_NORM)
        optimizer.step()
        loss.item()

    return update


def in_torch(network: nn.Module, observations: NDArray[np.float32]) -> Any:
    with torch.inference_mode():
        return network(torch.as_tensor(observations)).numpy()


def microseconds(*tasks: Callable[[], Any], repeats: int = 25, calls: int = 40) -> list[float]:
    """The fastest repeat of each, taken by turns."""
    best = [float("inf")] * len(tasks)
    for _ in range(repeats):
        for index, task in enumerate(tasks):
            start = time.perf_counter()
            for _ in range(calls):
                task()
            best[index] = min(best[index], (time.perf_counter() - start) / calls * 1e6)
    return best


def compare_updates(generator: np.random.Generator) -> None:
    print("hidden      batch  double   ours µs  usual µs  ratio")
    for width, size, double in itertools.product((128, 256), (64, 128, 256), (False, True)):
        batch = SimpleNamespace(
            observations=generator.normal(size=(size, *SHAPE)).astype(np.float32),
            actions=generator.integers(ACTIONS, size=size),
            returns=generator.normal(size=size).astype(np.float32),
            discounts=np.full(size, 0.97, np.float32),
            next_observations=generator.normal(size=(size, *SHAPE)).astype(np.float32),
            weights=np.ones(size, np.float32),
        )
        agent = Agent(hidden=(width, width), dqn=DQN.Config(double=double))
        mine, theirs = microseconds(ours(agent, batch), usual(agent, batch))
        ratio = mine / theirs
        print(
            f"[{width}, {width}]  {size:5}  {double!s:6}  {mine:8.0f}  {theirs:8.0f}  {ratio:5.2f}",
            flush=True,
        )


def compare_acting(generator: np.random.Generator) -> None:
    print("hidden      batch          numpy µs  torch µs  ratio")
    for width, size in itertools.product((64, 128, 256), (1, 16, 64)):
        agent = Agent(hidden=(width, width))
        parameters = make_parameters(agent, SHAPE, "float32", ACTIONS, seed=0)
        policy = NumpyPolicy(agent, SHAPE, "float32", ACTIONS)
        policy.load(parameters.read())
        observations = generator.normal(size=(size, *SHAPE)).astype(np.float32)
        mine, theirs = microseconds(
            partial(policy.q_values, observations),
            partial(in_torch, parameters.module, observations),
            calls=200,
        )
        ratio = mine / theirs
        print(f"[{width}, {width}]  {size:5}          {mine:8.1f}  {theirs:8.1f}  {ratio:5.2f}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # Adam's moments of dead units decay into denormals, which are slow
    generator = np.random.default_rng(0)
    compare_updates(generator)
    print()
    compare_acting(generator)


if __name__ == "__main__":
    main()
