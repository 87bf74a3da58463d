"""Model parallelism: two stages on two cores against the whole network on one.

`python -m tests.bench.pipeline [SECONDS]` prints the ratio of the table in docs/performance.md, and that of a
shorter batch. Each stage is a process of its own and computes on one torch thread, the learner
is this process; batches are in progress. The whole network learns in a bare loop: forward, backward, Adam.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any, ClassVar

import anyio
import numpy as np
import torch

import actorq.actors as actors
from actorq.actors import ActorSpec, handles
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_parameters
from actorq.learning.optimizers import make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.replay.chunk import Batch, Sample
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.pipeline_learner import PipelineLearner
from actorq.roles.pipeline.stage import Stage
from actorq.roles.replay.messages import DrawSample, SampleReply, UpdatePriorities

from .processes import processes

TASK = Task(env="CartPole-v1")
BATCH_SIZES = (4096, 1024)
STAGES, MICRO_BATCHES, ROUNDS, SECONDS = 2, 8, 3, 8.0
WARM_UP = 5


def agent_of(batch_size: int) -> Agent:
    return Agent(hidden=(512,) * 9, batch_size=batch_size, n_step=1)


def sample(size: int) -> Sample:
    """Made-up transitions of CartPole's shapes."""
    generator = np.random.default_rng(0)
    now, later = generator.normal(size=(2, size, 4)).astype(np.float32)
    discounts = np.full(size, 0.99, np.float32)
    return Sample(
        ids=np.arange(size),
        probabilities=np.full(size, 1 / size),
        observations=now,
        actions=generator.integers(0, 2, size),
        returns=np.ones(size, np.float32),
        discounts=discounts,
        next_observations=later,
    )


def whole_seconds(agent: Agent, seconds: float) -> float:
    """One update by the lone learner's rule."""
    online = make_parameters(agent, (4,), np.float32, 2, seed=0)
    target = TargetNetwork(agent, online)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    rule = LearningRule(agent, online, target.parameters)
    batch = Batch.of(sample(agent.batch_size), np.ones(agent.batch_size, np.float32))

    def update() -> None:
        rule(batch)
        optimizer.step()

    update()
    began, updates = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        update()
        updates += 1
    return (time.perf_counter() - began) / updates


class Stock(actors.Actor):
    """A replay's stand-in that always has batches."""

    @handles(concurrent=8)
    async def sample(self, request: DrawSample) -> SampleReply:
        return SampleReply(sample(request.count), 1.0, 1.0)

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        pass


class Timed(PipelineLearner):
    """Notes when each of its updates was made."""

    made: ClassVar[list[float]] = []
    enough: ClassVar[anyio.Event]
    seconds: ClassVar[float]

    async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
        await super()._learn(source, draw)
        self.made.append(time.perf_counter())
        if len(self.made) > WARM_UP and self.made[-1] - self.made[WARM_UP] > self.seconds:
            self.enough.set()


def topology(agent: Agent) -> list[ActorSpec]:
    names = tuple(f"stage.{index}" for index in range(STAGES))
    shared: dict[str, Any] = {"tables": {"agent": agent, "task": TASK}}
    stage = Stage.Config(torch_threads=1)
    learner = Timed.Config(micro_batches=MICRO_BATCHES, batches_per_ask=1)
    return [
        ActorSpec(name="replay", cls=Stock, config=Stock.Config()),
        *(
            ActorSpec(
                name=name, cls=Stage, config=stage, node=name, index=index, count=STAGES,
                ports={"stages": names}, **shared,
            )
            for index, name in enumerate(names)
        ),
        ActorSpec(
            name="learner", cls=Timed, config=learner, seed=derive_seed(0, "learner"),
            ports={"replay": ("replay",), "stages": names}, **shared,
        ),
    ]  # fmt: skip


async def pipeline_seconds(agent: Agent, seconds: float) -> float:
    """One update of the stages."""
    Timed.made.clear()
    Timed.enough, Timed.seconds = anyio.Event(), seconds
    async with processes("asyncio", topology(agent)):
        await Timed.enough.wait()
        made = Timed.made[WARM_UP:]
        return (made[-1] - made[0]) / (len(made) - 1)


def main(arguments: list[str]) -> None:
    seconds = float(arguments[0]) if arguments else SECONDS
    torch.set_num_threads(1)
    for batch_size in BATCH_SIZES:
        agent, ratios = agent_of(batch_size), []
        for _ in range(ROUNDS):
            whole, parts = whole_seconds(agent, seconds), anyio.run(pipeline_seconds, agent, seconds)
            ratios.append(parts / whole)
            print(f"  two stages {1e3 * parts:.1f} ms an update, the whole network {1e3 * whole:.1f} ms")
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        aim = ", <= 0.65" if batch_size == BATCH_SIZES[0] else ""
        print(f"two stages on two cores against the whole on one, batches of {batch_size}: {told}{aim}")


if __name__ == "__main__":
    main(sys.argv[1:])
