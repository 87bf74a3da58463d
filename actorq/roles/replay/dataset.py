"""What a learner learns from: batches of all its tasks, drawn while it computes, and priorities back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from actorq.actors import Actor, Group
from actorq.envs.task import Task, batch_rows
from actorq.replay.chunk import Batch

from .client import ReplayClient
from .messages import Sample, UpdatePriorities, Version
from .prefetcher import Prefetcher

if TYPE_CHECKING:
    import torch

    from actorq.learning.networks.flat import FlatParameters
    from actorq.learning.staging import StagedBatch

# Settings of the roles that draw. Each role lists them: a struct has no two bases with fields.
BatchesPerAsk = Annotated[
    int, Meta(ge=1, description="batches drawn with one message; their priorities go back together")
]
DrawsAhead = Annotated[
    int, Meta(ge=1, description="draws of so many batches that are ready or under way while it computes")
]


class DatasetSettings(Protocol):
    """Of a role that draws, as its `Config` has them."""

    @property
    def batches_per_ask(self) -> int: ...
    @property
    def draws_ahead(self) -> int: ...


class DatasetDraw(NamedTuple):
    """Batches for as many updates as were drawn with one message."""

    drawn: Sequence[Batch]
    """Of each task, all its transitions."""
    updates: Sequence[Sequence[Batch | StagedBatch]]
    """Of each update, a batch of each task; for a GPU they are on their way there."""


class ReplayDataset:
    """Draws from the shards of a replay, ahead of the learner, in whose name it does it.

    With several tasks the shards are dealt to them in blocks: of six, two tasks have three each, in order. A
    batch has of each task what its share says, however much there is of it; importance weights are each
    task's own.
    """

    def __init__(
        self,
        actor: Actor,
        shards: Group[Sample | UpdatePriorities],
        tasks: Sequence[Task],
        settings: DatasetSettings,
        batch_size: int,
        version: Callable[[], Version],
        parameters: FlatParameters | None = None,
    ) -> None:
        """Begins at once. `version`: of the learner's parameters, now; on their device batches are staged."""
        self.batch_size = batch_size
        """Transitions of an update; may be changed, for draws to come."""
        self._actor, self._tasks, self._version = actor, tasks, version
        self._parts = settings.batches_per_ask
        block = len(shards) // len(tasks)
        self._readers = [
            ReplayClient(shards[task * block : (task + 1) * block], actor.seed + task, actor)
            for task in range(len(tasks))
        ]
        self._stage_ahead = None
        if parameters is not None and parameters.device.type == "cuda":
            self._stage_ahead = self._make_staging(parameters.dtype, parameters.device, settings.draws_ahead)
        self._feeding = Prefetcher(actor, self._draw, settings.draws_ahead)

    async def next(self) -> DatasetDraw:
        """The next draw, as soon as there is one."""
        return await self._feeding.next()

    def take_waiting_share(self) -> float:
        """The share of the time since this was asked last that `next` has waited."""
        return self._feeding.take_waiting_share()

    async def update(self, draw: DatasetDraw, td_errors: Mapping[int, NDArray[np.float32]]) -> None:
        """Send back what updates of a draw, by their number in it, have found: [B] TD errors, one task's
        after another's."""
        for task, (reader, drawn) in enumerate(zip(self._readers, draw.drawn, strict=True)):
            rows = len(drawn) // self._parts
            before = sum(len(other) // self._parts for other in draw.drawn[:task])
            ids = [drawn.ids[part :: self._parts] for part in td_errors]
            found = [errors[before : before + rows] for errors in td_errors.values()]
            await reader.update(np.concatenate(ids), np.abs(np.concatenate(found)))

    async def _draw(self) -> DatasetDraw:
        version, drawn = self._version(), []
        for reader, rows in zip(self._readers, batch_rows(self._tasks, self.batch_size), strict=True):
            drawn.append(await reader.draw(rows, self._parts, version))
        updates = list(zip(*(batch.split(self._parts) for batch in drawn), strict=True))
        if self._stage_ahead is None:
            return DatasetDraw(drawn, updates)
        staged = iter(
            await self._actor.in_thread(self._stage_ahead, [it for update in updates for it in update])
        )
        return DatasetDraw(drawn, [[next(staged) for _ in update] for update in updates])

    def _make_staging(
        self, dtype: torch.dtype, device: torch.device, ahead: int
    ) -> Callable[[Sequence[Batch]], list[StagedBatch]]:
        from actorq.learning.staging import AheadStaging

        # What is learned from, what is ready, and what is being made ready; each task has buffers of its own.
        return AheadStaging(dtype, device, self._parts * (ahead + 2) * len(self._tasks))
