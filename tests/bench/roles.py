"""What being actors costs explorers and a learner, against bare loops over the same parts.

`python -m tests.bench.roles`. Two comparisons, each in rounds that alternate, the ratio the median over them:

- environment steps/s of one environment actor with 16 CartPoles, against a plain loop over gymnasium's vector
  environment with the same policy, choosing actions alike (the actor also records, and makes chunks of 64
  steps with n-step returns and first priorities; the plain loop keeps nothing). The weights are the initial
  ones: poles fall soon, which costs the actor more than the plain loop
- updates/s of the learner while four explorers feed it, all on one event loop, against one loop that does the
  same by hand: explore a chunk, add it, and draw, update and return priorities as often as the rate limiter
  would have it. Network, batch, optimizer, replay and the share of exploring are the same.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import anyio
import gymnasium
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorSpec, System, Topic, handles
from actorq.actors.histogram import Distribution
from actorq.envs.make import describe, make_environments
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.exploration import epsilon_greedy
from actorq.learning.networks.numpy_acting import make_policy
from actorq.roles.common.adder import NStepAdder, answered
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.messages import Insert, Inserted, Version, Weights
from actorq.roles.replay.shard import ReplayShard

ROUNDS = 7
SECONDS = 2.0
TASK = Task(env="CartPole-v1")
AGENT = Agent(hidden=(128, 128), n_step=3, batch_size=128, max_gradient_norm=10.0)
EXPLORERS, ENVS, CHUNK_STEPS = 4, 16, 16
LONG_CHUNK_STEPS = 64
CAPACITY, MIN_SIZE, SAMPLES_PER_INSERT = 100_000, 5_000, 8.0


class Sums:
    """Counts of one measured stretch, and when it is over."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def gauge(self, actor: str, name: str, value: float) -> None:
        pass

    def count(self, actor: str, name: str, amount: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        pass

    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        pass


class Sink(Actor):
    """Publishes one set of weights and takes every chunk."""

    weights: Topic[Weights]

    async def run(self) -> None:
        await self.weights.publish(Weights(Version(0, 0), initial_parameters()))

    @handles
    async def insert(self, request: Insert) -> Inserted:
        self.progress("steps", LONG_CHUNK_STEPS * ENVS)  # as the plain loop counts: resetting steps too
        return Inserted(0, len(request.chunk))


def initial_parameters() -> Any:
    from actorq.learning.networks.factory import make_parameters

    spaces = describe(TASK)
    parameters = make_parameters(AGENT, spaces.observation_shape, spaces.dtype, spaces.actions, 0)
    return parameters.read()


def rate_of_actors(specs: list[ActorSpec], count: str, warm_up: float) -> float:
    """Counts per second of actors that run freely, after a warm-up of so many seconds."""
    sums = Sums()

    async def measure() -> float:
        async with System(specs, reports=sums):
            await anyio.sleep(warm_up)
            before, began = sums.counts.get(count, 0), time.perf_counter()
            await anyio.sleep(SECONDS)
            return (sums.counts.get(count, 0) - before) / (time.perf_counter() - began)

    return anyio.run(measure)


def explorer(name: str, replay: str, weights: str, chunk_steps: int = CHUNK_STEPS) -> ActorSpec:
    return ActorSpec(
        name=name,
        cls=Explorer,
        config=Explorer.Config(envs=ENVS, chunk_steps=chunk_steps, epsilon=0.1),
        tables={"task": TASK, "agent": AGENT},
        ports={"replay": (replay,), "weights": (weights,)},
    )


# One environment actor.


def environment_actor() -> float:
    sink = ActorSpec(name="sink", cls=Sink)
    return rate_of_actors([sink, explorer("explorer", "sink", "sink", LONG_CHUNK_STEPS)], "steps", 0.3)


def plain_environment_loop() -> float:
    vector = gymnasium.make_vec(TASK.env, num_envs=ENVS)
    spaces = describe(TASK)
    policy = make_policy(AGENT, spaces.observation_shape, spaces.dtype, spaces.actions, "cpu")
    policy.load(initial_parameters())
    rng = np.random.default_rng(0)
    observations, _ = vector.reset(seed=0)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        for _ in range(100):
            actions = epsilon_greedy(policy.q_values(observations), 0.1, rng)
            observations, *_ = vector.step(actions)
        steps += 100 * ENVS
    return steps / (time.perf_counter() - began)


# A learner that is fed.


def fed_learner() -> float:
    shared = {"task": TASK, "agent": AGENT}
    config = ReplayShard.Config(
        capacity=CAPACITY, min_size=MIN_SIZE, samples_per_insert=SAMPLES_PER_INSERT, beta_batches=10_000
    )
    specs = [
        ActorSpec(name="replay", cls=ReplayShard, config=config),
        ActorSpec(
            name="learner", cls=Learner, config=Learner.Config(), tables=shared, ports={"replay": ("replay",)}
        ),
        *[explorer(f"explorer.{index}", "replay", "learner") for index in range(EXPLORERS)],
    ]
    return rate_of_actors(specs, "updates", 1.5)


class ByHand:
    """The same parts in one plain loop."""

    def __init__(self) -> None:
        from actorq.learning.networks.factory import make_parameters
        from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
        from actorq.learning.target import TargetNetwork
        from actorq.learning.update import LearningRule
        from actorq.replay.buffer import ReplayBuffer as Buffer
        from actorq.replay.memory_store import MemoryStore
        from actorq.replay.sampling.prioritized import PrioritizedIndex

        spaces = describe(TASK)
        shape = spaces.observation_shape
        self.online = make_parameters(AGENT, shape, spaces.dtype, spaces.actions, 0)
        self.target = TargetNetwork(AGENT, self.online)
        self.optimizer = make_optimizer(AGENT, self.online.vector, self.online.gradient)
        self.rule = LearningRule(AGENT, self.online, self.target.parameters)
        self.clip = clip_gradient_norm
        self.replay = Buffer(MemoryStore(CAPACITY), PrioritizedIndex(CAPACITY), seed=0)
        self.environments = [make_environments(TASK, ENVS, seed) for seed in range(EXPLORERS)]
        self.policy = make_policy(AGENT, shape, spaces.dtype, spaces.actions, "cpu")
        self.policy.load(self.online.read())
        self.trajectories = [
            NStepAdder(
                ENVS, spaces,
                stack=1, agent=AGENT, length=CHUNK_STEPS,
            )
            for _ in range(EXPLORERS)
        ]  # fmt: skip
        self.observations = [environments.reset() for environments in self.environments]
        for trajectory, observations in zip(self.trajectories, self.observations, strict=True):
            trajectory.start(observations)
        self.rng = np.random.default_rng(0)
        self.updates = self.inserted = 0
        while self.inserted < MIN_SIZE:
            self.explore(self.inserted % EXPLORERS)

    def explore(self, which: int) -> None:
        environments, trajectory = self.environments[which], self.trajectories[which]
        observations, full = self.observations[which], False
        while not full:
            q_values = self.policy.q_values(observations)
            actions = epsilon_greedy(q_values, 0.1, self.rng)
            step = environments.step(actions)
            full = trajectory.record(actions, q_values, step)
            observations = step.observations
        self.observations[which] = observations
        chunk = answered(trajectory.flush(), self.policy.q_values)
        self.replay.add(chunk)
        self.inserted += len(chunk)

    def update(self) -> None:
        batch = self.replay.sample(AGENT.batch_size, 0.4)
        learned = self.rule(batch)
        assert AGENT.max_gradient_norm is not None
        self.clip(self.online.gradient, AGENT.max_gradient_norm)
        self.optimizer.step()
        self.updates += 1
        self.target.follow(self.updates)
        self.replay.update(batch.ids, np.abs(learned.priorities))
        if self.updates % 16 == 0:
            for _ in range(EXPLORERS):
                self.policy.load(self.online.read())

    def rate(self) -> float:
        began, before = time.perf_counter(), self.updates
        while time.perf_counter() - began < SECONDS:
            self.explore(self.inserted % EXPLORERS)
            while self.updates * AGENT.batch_size < (self.inserted - MIN_SIZE) * SAMPLES_PER_INSERT:
                self.update()
        return (self.updates - before) / (time.perf_counter() - began)


def compare(title: str, unit: str, target: float, ours: Any, theirs: Any) -> None:
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    ratios = [mine / other for mine, other in pairs]
    low, high = np.quantile(ratios, [0.1, 0.9])
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{title}: {mine:,.0f} {unit} against {other:,.0f}, ratio {statistics.median(ratios):.2f} "
        f"(10 % to 90 %: {low:.2f} to {high:.2f}), to reach {target}",
        flush=True,
    )


def main() -> None:
    import torch

    torch.set_num_threads(1)
    compare("one environment actor", "env steps/s", 0.85, environment_actor, plain_environment_loop)
    compare("learner while fed", "updates/s", 0.85, fed_learner, lambda: ByHand().rate())


if __name__ == "__main__":
    main()
