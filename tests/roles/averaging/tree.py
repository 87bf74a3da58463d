"""The root of a tree, and learners: driven by the test, or toys that learn to count."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Actor, ActorSpec, Ref, System, handles
from actorq.actors.spec import derive_seed
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.roles.averaging.client import AveragingClient
from actorq.roles.averaging.messages import JoinAveraging, Synchronize, Synchronized
from actorq.roles.averaging.server import AveragingServer
from actorq.roles.learner.base import BatchSource, ReplayDraw
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.messages import DrawSample, SampleReply, UpdatePriorities, Weights
from actorq.testing import Record
from tests.actors.world import fresh, spec
from tests.replay.chunks import sample_of
from tests.roles.actors import WeightsRecorder
from tests.roles.learner.learners import interleaved
from tests.roles.parameter_server.server import Bystander
from tests.roles.topologies import batch_of

AGENT = Agent(hidden=(), batch_size=4, n_step=1, dtype="float64")
TABLES = {"agent": AGENT, "task": Task(env="CartPole-v1")}
SIZE = 4 * 2 + 2
LEARNING = Agent(hidden=(8,), batch_size=8, n_step=1, dtype="float64", target_every_updates=5)
"""What real learners learn with."""


def tree(
    members: Sequence[type[Actor]],
    *,
    root: type[AveragingServer] = AveragingServer,
    centers: Record[Weights] | None = None,
    **config: Any,
) -> list[ActorSpec]:
    """The root, a evaluator's stand-in, and `learner.0`, … of these classes."""
    names = tuple(f"learner.{index}" for index in range(len(members)))
    recorder = fresh(WeightsRecorder, record=centers if centers is not None else Record())
    settings = AveragingServer.Config(**config)
    return [
        spec("root", root, None, settings, seed=derive_seed(0, "root"), tables=TABLES),
        spec("evaluator", recorder, {"weights": "root"}),
        *(
            spec(name, cls, {"root": "root"} if "root" in cls.definition.complete().ports else None)
            for name, cls in zip(names, members, strict=True)
        ),
    ]


def bystanders(count: int) -> list[type[Actor]]:
    return [Bystander] * count


class Voice:
    """What a test says to the root in one learner's name."""

    def __init__(self, system: System, learner: int, incarnation: int = 0) -> None:
        self._root = system.ref("root")
        self.name, self._incarnation = f"learner.{learner}", incarnation

    async def join(self, *, learning: bool) -> Synchronized:
        reply: Synchronized = await self._root.ask(JoinAveraging(self.name, self._incarnation, learning))
        return reply

    async def synchronize(self, parameters: float | NDArray[Any], updates: int = 1) -> Synchronized:
        """A number stands for parameters that are all that number."""
        vector = np.full(SIZE, parameters) if isinstance(parameters, float) else parameters
        reply: Synchronized = await self._root.ask(Synchronize(self.name, self._incarnation, updates, vector))
        return reply


class Counting(Actor):
    """A learner whose every update adds its step to all parameters; says what it begins and goes on with."""

    step: ClassVar[float] = 1.0
    every: ClassVar[int] = 4
    said: ClassVar[Record[tuple[str, int, float]]]
    """(name, restarts, first parameter)"""
    root: Ref[JoinAveraging | Synchronize]

    async def on_start(self) -> None:
        self._averaging = AveragingClient(self, self.root, self.every)

    async def run(self) -> None:
        await self._averaging.join(learning=False)
        joined = await self._averaging.join(learning=True)
        assert joined is not None
        self._say(joined)
        vector = np.array(joined)
        for update in count():
            await self.before(update)
            vector += self.step
            self.progress("updates")
            if self._averaging.note_update():
                vector = np.array(await self._averaging.synchronize(vector.copy()))
                self._say(vector)

    async def before(self, update: int) -> None:
        await self.sleep(0)  # others wait for the loop

    def _say(self, vector: NDArray[Any]) -> None:
        self.said.add((self.name, self.restarts, float(vector[0])))


class Zero(AveragingServer):
    """Begins at zero."""

    def initial_parameters(self) -> NDArray[Any]:
        return np.zeros(SIZE)


class Spring(Actor):
    """A replay's stand-in that never runs dry: `batch_of` its index, by number."""

    async def on_start(self) -> None:
        self._given = 0

    @handles(concurrent=4)
    async def sample(self, request: DrawSample) -> SampleReply:
        numbers = range(self._given + 1, self._given + request.batches + 1)
        self._given = numbers.stop - 1
        batch = interleaved([batch_of(LEARNING, self.index, number) for number in numbers])
        return SampleReply(sample_of(batch), 1.0, 1.0)

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        pass


class Limited(Learner):
    """Rests after so many updates."""

    limit: ClassVar[int] = 60
    resting: ClassVar[Record[str]]

    async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
        if self.version.updates >= self.limit:
            self.resting.add(self.name)
            await self.event().wait()
        await super()._learn(source, draw)


class Noting(AveragingServer):
    """Tells who has met."""

    meetings: ClassVar[Record[tuple[int, ...]]]

    async def _average(self, learners: tuple[int, ...]) -> None:
        await super()._average(learners)
        self.meetings.add(learners)


def learners(
    count: int,
    every: int,
    cls: type[Learner] = Learner,
    root: type[AveragingServer] = AveragingServer,
    **config: Any,
) -> list[ActorSpec]:
    """The root, and learners before a spring each."""
    indices = range(count)
    names = tuple(f"learner.{index}" for index in indices)
    tables = {"agent": LEARNING, "task": TABLES["task"]}
    given: dict[str, Any] = {"count": count, "tables": tables}
    settings = Learner.Config(synchronize_every_updates=every, draws_ahead=1)
    return [
        spec(
            "root",
            root,
            None,
            AveragingServer.Config(**config),
            seed=derive_seed(0, "root"),
            tables=tables,
        ),
        *(spec(f"spring.{index}", Spring, index=index, count=count) for index in indices),
        *(
            spec(name, cls, {"replay": f"spring.{index}", "root": "root"}, settings, index=index, **given)
            for index, name in enumerate(names)
        ),
    ]
