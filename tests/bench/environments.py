"""What stepping environments through actorq and recording their experience costs, against gymnasium alone.

`python -m tests.bench.environments`. Rounds of the things compared alternate; the ratio is the median over
them. Each is measured for a policy that falls soon (of 16 environments one ends in nearly every step) and for
one that balances.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from actorq.envs.make import make_environments
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.roles.common.adder import NStepAdder, answered

ENVIRONMENTS = 16
ROUNDS = 15
STEPS = 1_500

Policy = Callable[[NDArray[Any]], tuple[NDArray[np.intp], NDArray[np.float32]]]
Loop = Callable[[int], None]


def network_policy(balances: bool) -> Policy:
    """Greedy in a multilayer perceptron 4-128-128-2, as an explorer acts; the last layer decides how well."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 128)).astype(np.float32) / 2
    second = rng.normal(size=(128, 128)).astype(np.float32) / 8
    third = rng.normal(size=(128, 2)).astype(np.float32) / 8
    lean = np.array([[0.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 1.0]], np.float32)

    def act(observations: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        hidden = np.maximum(np.maximum(observations @ first, 0) @ second, 0)
        q = hidden @ third
        if balances:
            q = observations @ lean
        return q.argmax(axis=1), q.astype(np.float32, copy=False)

    return act


def plain(env: str, act: Policy, mode: str | None = None) -> Loop:
    vector = gymnasium.make_vec(env, num_envs=ENVIRONMENTS, vectorization_mode=mode)
    observations, _ = vector.reset(seed=0)

    def loop(steps: int) -> None:
        nonlocal observations
        for _ in range(steps):
            actions, _ = act(observations)
            observations, *_ = vector.step(actions)

    return loop


def through_actorq(env: str, act: Policy, record: bool) -> Loop:
    environments = make_environments(Task(env=env), ENVIRONMENTS, 0)
    spaces = environments.spaces
    trajectory = NStepAdder(
        ENVIRONMENTS,
        spaces,
        stack=1,
        agent=Agent(n_step=3, gamma=0.99),
        length=64,
    )
    observations = environments.reset()
    trajectory.start(observations)

    def q_values(last: NDArray[Any]) -> NDArray[np.float32]:
        return act(last)[1]

    def loop(steps: int) -> None:
        nonlocal observations
        for _ in range(steps):
            actions, q = act(observations)
            step = environments.step(actions)
            observations = step.observations
            if record and trajectory.record(actions, q, step):
                answered(trajectory.flush(), q_values)

    return loop


def generic(env: str, act: Policy) -> Loop:
    vector = SyncVectorEnv([lambda: gymnasium.make(env, disable_env_checker=True)] * ENVIRONMENTS)
    observations, _ = vector.reset(seed=0)

    def loop(steps: int) -> None:
        nonlocal observations
        for _ in range(steps):
            actions, _ = act(observations)
            observations, *_ = vector.step(actions)

    return loop


def compare(title: str, ours: Loop, theirs: Loop) -> None:
    """Print how many environment steps a second each makes, and the ratio."""
    ratios, rates = [], []
    for loop in (ours, theirs):
        loop(200)
    for _ in range(ROUNDS):
        seconds = []
        for loop in (ours, theirs):
            started = time.perf_counter()
            loop(STEPS)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
        rates.append([STEPS * ENVIRONMENTS / each for each in seconds])
    mine, others = (statistics.median(column) for column in zip(*rates, strict=True))
    low, high = np.quantile(ratios, [0.1, 0.9])
    print(
        f"{title:58} {mine:9,.0f} {others:9,.0f}  {statistics.median(ratios):5.2f}  ({low:.2f} .. {high:.2f})"
    )


def main() -> None:
    print(f"{ENVIRONMENTS} environments; environment steps/s, and the ratio with its 10 % and 90 % quantiles")
    print(f"{'':58} {'ours':>9} {'gymnasium':>9}  ratio")
    for balances in (False, True):
        act = network_policy(balances)
        how = "balancing" if balances else "falling"
        own = "CartPole-v1"
        compare(f"CartPole {how}: stepped", through_actorq(own, act, False), plain(own, act))
        compare(f"CartPole {how}: stepped and recorded", through_actorq(own, act, True), plain(own, act))
        compare(f"CartPole {how}: own vector against the generic one", plain(own, act), generic(own, act))


if __name__ == "__main__":
    main()
