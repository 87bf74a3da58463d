"""The loop that all learners share: draw a batch, compute, send priorities back, finish the update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import ActorSpec, Group, Ref, SettingProblem, Topic
from actorq.roles.averaging.client import AveragingClient, SynchronizeEveryUpdates
from actorq.roles.averaging.messages import JoinAveraging, Synchronize
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.wiring import shard_problems
from actorq.roles.replay.client import DatasetConfig, ReplayDataset
from actorq.roles.replay.messages import DrawSample, UpdatePriorities, Version, Weights

if TYPE_CHECKING:
    from actorq.learning.networks.flat import FlatParameters
    from actorq.learning.staging import StagedBatch, TransitionBatch


ReplayDraw: TypeAlias = "Sequence[Sequence[TransitionBatch | StagedBatch | None]]"
"""Batches drawn together: for each update one of each task; None for a task without transitions in it."""


class BatchSource(Protocol):
    """Source of batches: the shards of a replay, or a replay of the learner's own."""

    async def next(self) -> ReplayDraw:
        """The batches of the next draw."""

    async def update(self, priorities: Mapping[int, NDArray[np.float32]]) -> None:
        """Set the priorities [B] of updates of the last draw, by their number in it."""


class ComputedUpdate(Protocol):
    """Result of one batch."""

    @property
    def priorities(self) -> NDArray[np.float32]:
        """[B] priorities, task after task."""

    @property
    def loss(self) -> float: ...


class UpdateMethod(Protocol):
    """How a batch becomes an update: a local step, a gradient for a parameter server, or a pipeline."""

    async def begin(self, *, learning: bool) -> None:
        """Load the parameters to start from; called at the start and, with `learning`, once the first batch
        is there: until then no other learner waits for this one.
        """

    async def compute(self, *batches: Any) -> ComputedUpdate | None:
        """Compute with a batch of each task; None if the result is unusable and was dropped."""


class ParameterOwner(UpdateMethod, Protocol):
    """An update method that makes the updates itself, and so owns the parameters' version."""

    @property
    def version(self) -> Version: ...

    async def read(self) -> NDArray[Any]:
        """A copy of the flat vector of the online parameters."""

    async def write(self, parameters: NDArray[Any], *, with_target: bool) -> None:
        """Replace the online parameters and, with `with_target`, the target network's; no update."""


class BaseLearner(LearningActor):
    """Loop over a source of batches and an update method.

    A role creates `_method` in `on_start`, its source of batches in `_open_source`, and overrides `_finish`
    with what follows an update.
    """

    joins_priorities: ClassVar[bool] = True
    """Whether the priorities of all updates of a draw are sent together, after the last of them."""

    _method: UpdateMethod

    def _open_source(self) -> BatchSource:
        raise NotImplementedError

    async def _finish(self, source: Any, computed: ComputedUpdate) -> None:
        """Called after each update, when its priorities have been sent."""
        raise NotImplementedError

    async def _publish(self) -> None:
        """Publish the parameters, if they are the learner's own."""

    def _report_draw(self, source: Any) -> None:
        """Called after all updates of a draw."""

    async def run(self) -> None:
        await self._method.begin(learning=False)
        await self._publish()
        source = self._open_source()
        draw = await source.next()
        await self._method.begin(learning=True)
        while True:
            await self._learn(source, draw)
            self._report_draw(source)
            draw = await source.next()

    async def _learn(self, source: BatchSource, draw: ReplayDraw) -> None:
        """Make all updates of a draw."""
        priorities = {}
        for number, batches in enumerate(draw):
            computed = await self._method.compute(*batches)
            if computed is None:
                continue
            priorities[number] = computed.priorities
            if not self.joins_priorities or number == len(draw) - 1:
                await source.update(priorities)
                priorities = {}
            await self._finish(source, computed)


class ReplayLearner(BaseLearner):
    """A learner that draws from the shards of a replay."""

    class Config(DatasetConfig):
        pass

    replay: Group[DrawSample | UpdatePriorities]

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        return shard_problems(spec, specs)

    @property
    def version(self) -> Version:
        """Version of the parameters that it computes with."""
        raise NotImplementedError

    @property
    def _staged_for(self) -> FlatParameters | None:
        """The parameters on whose device batches are staged; None: batches stay in memory."""
        return None

    def _open_source(self) -> ReplayDataset:
        return ReplayDataset(self, self.replay, self.config, lambda: self.version, self._staged_for)

    def _report_draw(self, source: ReplayDataset) -> None:
        self.report("waiting_share", source.take_waiting_share())


class OwningLearner(ReplayLearner):
    """A learner with its own parameters: it counts the updates and publishes the weights.

    With a `root` it is one of several whose parameters are averaged there every `synchronize_every_updates`
    updates (see `AveragingServer`); in between each learns independently.
    """

    class Config(ReplayLearner.Config):
        publish_every_updates: Annotated[
            int, Meta(ge=1, description="updates between two publications of weights")
        ] = 16
        synchronize_every_updates: SynchronizeEveryUpdates = 50

    renamed_keys = {"config.meet_every_updates": "config.synchronize_every_updates"}  # noqa: RUF012
    root: Ref[JoinAveraging | Synchronize] | None
    weights: Topic[Weights]
    _method: ParameterOwner

    async def on_start(self) -> None:
        self._averaging = AveragingClient(self, self.root, self.config.synchronize_every_updates)

    @property
    def version(self) -> Version:
        return self._method.version

    async def _finish(self, source: Any, computed: ComputedUpdate) -> None:
        self.progress("updates")
        if self._averaging.note_update():
            await self._synchronize()
        if self.version.updates % self.config.publish_every_updates == 0:
            await self._publish()

    async def _synchronize(self) -> None:
        """Replace the parameters by the averaging server's result.

        If this update refreshes the target network, that gets the new parameters too.
        """
        averaged = await self._averaging.synchronize(await self._method.read())
        await self._method.write(averaged, with_target=self.agent.copies_target(self.version.updates))

    async def _publish(self) -> None:
        parameters = await self._method.read()
        await self.weights.publish(Weights(self.version, parameters))
