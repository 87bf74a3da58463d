"""An inference actor's actions a second, against the same forward pass in a bare loop; and what askers wait.

`python -m tests.bench.inference`. The network is Nature's. The actor and its device, one core, are this
process's; the explorers that ask, each with 16 environments that cost next to nothing, share a process on the
other cores and ask over ipc. The bare loop passes ready batches, of the best of some sizes, through the same
policy on the actor's core. The ratio is the median of rounds in which both sides take turns.

Then latencies, from a request's arrival to its answer, and sizes of batches, by the number of askers.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorSpec, Topic
from actorq.envs.make import describe
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.networks.numpy_acting import Policy, make_policy
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.inference.server import Inference
from actorq.roles.replay.messages import Version, Weights

from ._screens import Sink
from .fed_learner import apart, confined, cores
from .prioritized_replay import ROUNDS, SECONDS, report

TASK = Task(env="tests.bench._screens:Screens", frame_stack=4)
AGENT = Agent(network="nature_cnn", n_step=3)
ENVS, ASKERS = 16, 8
BATCHES = (16, 32, 64, 128, 256)


class WeightPublisher(Actor):
    """Publishes one set of weights."""

    weights: Topic[Weights]

    async def run(self) -> None:
        await self.weights.publish(Weights(Version(0, 0), initial_parameters()))


class Measured(Inference):
    """Counts and keeps what the benchmark reads."""

    answered = 0
    batches: list[float]
    seconds: list[NDArray[Any]]

    @classmethod
    def begin(cls) -> None:
        cls.answered, cls.batches, cls.seconds = 0, [], []

    def progress(self, name: str, amount: int = 1) -> None:
        super().progress(name, amount)
        type(self).answered += amount

    def observe(self, name: str, values: Any) -> None:
        super().observe(name, values)
        if name == "inference_batch":
            type(self).batches.append(values)
        else:
            type(self).seconds.append(values)


class Asked(NamedTuple):
    actions_per_second: float
    batch: float
    """Observations, mean."""
    p50: float
    p99: float
    """Seconds from a request's arrival to its answer."""


def initial_parameters() -> NDArray[Any]:
    from actorq.learning.networks.factory import make_parameters

    spaces = describe(TASK)
    made = make_parameters(AGENT, spaces.observation_shape, spaces.dtype, spaces.actions, 0)
    return made.read()


def topology(askers: int, **settings: Any) -> list[ActorSpec]:
    tables = {"task": TASK, "agent": AGENT}
    config = Inference.Config(torch_threads=1, **settings)
    explores = Explorer.Config(envs=ENVS, chunk_steps=16)
    return [
        ActorSpec(name="sink", cls=Sink, node="explorers"),
        ActorSpec(name="learner", cls=WeightPublisher),
        ActorSpec(
            name="inference",
            cls=Measured,
            config=config,
            tables=tables,
            ports={"weights": ("learner",)},
        ),
        *(
            ActorSpec(
                name=f"explorer.{index}",
                cls=Explorer,
                config=explores,
                node="explorers",
                index=index,
                count=askers,
                seed=index,
                tables=tables,
                ports={"replay": ("sink",), "inference": ("inference",)},
            )
            for index in range(askers)
        ),
    ]


async def asked(askers: int, seconds: float, **settings: Any) -> Asked:
    Measured.begin()
    async with apart(topology(askers, **settings)):
        await anyio.sleep(1.0)
        Measured.begin()
        began = time.perf_counter()
        await anyio.sleep(seconds)
        rate = Measured.answered / (time.perf_counter() - began)
        batch = float(np.mean(Measured.batches))
        p50, p99 = np.quantile(np.concatenate(Measured.seconds), [0.5, 0.99])
    return Asked(rate, batch, float(p50), float(p99))


def bare() -> tuple[int, Policy]:
    """The best size of a batch, and the policy."""
    spaces = describe(TASK)
    policy = make_policy(AGENT, spaces.observation_shape, spaces.dtype, spaces.actions, "cpu")
    policy.load(initial_parameters())
    with confined(cores()[0]):
        rates = {size: passes(policy, size, seconds=SECONDS / 4) for size in BATCHES}
    for size, rate in rates.items():
        print(f"  a bare loop, batches of {size}: {rate:.0f} actions/s", flush=True)
    return max(rates, key=lambda size: rates[size]), policy


def passes(policy: Policy, size: int, seconds: float = SECONDS) -> float:
    """Actions a second of a bare loop."""
    batch = np.random.default_rng(0).integers(0, 255, (size, 4, 84, 84), np.uint8)
    policy.q_values(batch)
    began, actions = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        policy.q_values(batch)
        actions += size
    return actions / (time.perf_counter() - began)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    size, policy = bare()
    ratios = []
    for _ in range(ROUNDS):
        ours = anyio.run(asked, ASKERS, 2 * SECONDS).actions_per_second
        with confined(cores()[0]):
            theirs = passes(policy, size)
        ratios.append(ours / theirs)
        print(f"  {ours:.0f} actions/s for {ASKERS} askers, {theirs:.0f} in a bare loop", flush=True)
    report(f"inference for {ASKERS} askers of {ENVS} environments against a bare loop", ratios, ">= 0.75")
    for askers in (1, 8, 64):
        found = anyio.run(asked, askers, 2 * SECONDS)
        print(
            f"  {askers} askers: {found.actions_per_second:.0f} actions/s, batches of {found.batch:.0f},"
            f" {1e3 * found.p50:.0f} ms to the answer (p99: {1e3 * found.p99:.0f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
