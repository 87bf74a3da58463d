"""Actors around the role under test: probes, replacements, and an environment with switchable faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from actorq.actors import Actor, ActorSpec, Feed, Message, Topic, handles
from actorq.actors.runtime.reports import ReportTotals
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.networks.numpy_acting import make_policy
from actorq.roles.replay.messages import Insert, Inserted, Version, Weights
from actorq.testing import Record

AGENT = Agent(hidden=(), batch_size=4, n_step=1)
MOODY = "tests.roles.actors:Moody"


def spec(
    name: str,
    cls: type[Actor],
    ports: Mapping[str, str] | None = None,
    config: Any = None,
    **rest: Any,
) -> ActorSpec:
    wired = {port: (target,) for port, target in (ports or {}).items()}
    given = config if config is not None else cls.Config()
    return ActorSpec(name=name, cls=cls, ports=wired, config=given, seed=derive_seed(0, name), **rest)


def weights(updates: int, incarnation: int = 0, *, inputs: int = 1, actions: int = 2) -> Weights:
    """Of a linear network; each parameter is the number of updates."""
    parameters = np.full(make_policy(AGENT, (inputs,), np.float32, actions).size, updates, np.float32)
    return Weights(Version(incarnation, updates), parameters)


class Publish(Message):
    weights: list[Weights]


class WeightPublisher(Actor):
    """A learner's stand-in: publishes what it is told to, in one go."""

    weights: Topic[Weights]

    @handles
    async def publish(self, message: Publish) -> None:
        for each in message.weights:
            await self.weights.publish(each)


class Inbox(Actor):
    """A replay's stand-in: records what is inserted."""

    record: ClassVar[Record[Insert]]

    @handles
    async def insert(self, request: Insert) -> Inserted:
        self.record.add(request)
        return Inserted(0, len(request.chunk))


class WeightsRecorder(Actor):
    """Records the weights that come."""

    record: ClassVar[Record[Weights]]
    weights: Feed[Weights]

    @handles
    async def follow(self, message: Weights) -> None:
        self.record.add(message)


class Watch(ReportTotals):
    """Reports that can be waited for: `gauges` and `counts` hold (name, value) in order."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: Record[tuple[str, float]] = Record()
        self.progress: Record[tuple[str, int]] = Record()
        self._end: tuple[str, int, Callable[[], None]] | None = None

    def end_at(self, name: str, count: int, end: Callable[[], None]) -> None:
        """Call `end` at the moment that a count is reached, so that deterministic runs end alike."""
        self._end = name, count, end

    def gauge(self, actor: str, name: str, value: float) -> None:
        super().gauge(actor, name, value)
        self.readings.add((name, value))

    def count(self, actor: str, name: str, amount: int) -> None:
        super().count(actor, name, amount)
        self.progress.add((name, self.counts[name]))
        if self._end is not None and name == self._end[0] and self.counts[name] >= self._end[1]:
            self._end[2]()

    def all_of(self, name: str) -> list[float]:
        return [value for reading, value in self.readings.entries if reading == name]


class Moody(gymnasium.Env[Any, Any]):
    """Episodes of one step. Played in a vector, it gives `returns` one after the other, then 0.

    Playing once takes two episodes: the one that is played, and the one that begins at its end.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    seeds: ClassVar[list[int]] = []
    """All that any environment was seeded with."""

    def __init__(self, returns: list[float]) -> None:
        self.observation_space = Box(0.0, 1.0, (1,), np.float32)
        self.action_space = Discrete(2)
        self.returns, self.episode = dict(enumerate(returns)), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        if seed is not None:
            self.seeds.append(seed)
        self.episode += 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(1, np.float32), self.returns.get(self.episode // 2, 0.0), True, False, {}


def moody(*returns: float) -> Task:
    return Task(env=MOODY, options={"returns": list(returns)})


class Stamp(gymnasium.Env[Any, Any]):
    """Pictures [10, 12, 3], too small for most."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(0, 255, (10, 12, 3), np.uint8)
    action_space = Discrete(2)
