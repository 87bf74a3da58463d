"""Shard of a parameter server: applies slices of gradients in the coordinator's order, and serves slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

import actorq.actors as actors
from actorq.actors import Refused, SettingProblem, State, Stopping, handles
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.incarnation_fence import ENDED
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import network_problems, optimizer_problems
from actorq.roles.common.recovery import RecoveryPoints, point_of

from .messages import (
    Apply,
    Combine,
    Discard,
    Fetch,
    Fetched,
    Forget,
    GetSliceNorm,
    Gradient,
    Keep,
    ListVersions,
    Restore,
    SliceNorm,
    Ticket,
    VersionList,
)
from .recovery import RESTORING
from .version_store import VersionStore

if TYPE_CHECKING:
    from torch import Tensor

    from actorq.learning.distributed.parameter_shard import Shard


class ParameterServer(LearningActor):
    """Shard of a parameter server: `count` shards hold the parameters between them.

    All shards make the same updates in the order of the coordinator (role `parameter_coordinator`), and copy
    their slices for readers only at its command, so that the slices of one version are consistent. Updates
    and gradients of another incarnation are never applied.
    """

    class Config(actors.Config):
        torch_threads: Annotated[
            int, Meta(ge=1, description="threads torch computes with, in the whole process")
        ] = 1
        weights: Annotated[
            Literal["whole", "delta_float16", "delta_int8"],
            Meta(
                description="encoding for readers: parameters as they are, or compressed differences to the "
                "version they have"
            ),
        ] = "whole"
        kept_versions: Annotated[
            int, Meta(ge=1, le=1000, description="versions kept for readers; older ones are discarded")
        ] = 16
        restore_within_updates: Annotated[
            int, Meta(ge=2, description="updates lost at most when an actor of the server dies")
        ] = 1000

    one_state = True

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        yield from network_problems(tables, np.zeros(state["size"], np.float32))
        yield from optimizer_problems(tables, state["optimizer"])

    async def on_start(self) -> None:
        await self.load_torch()
        import torch

        torch.set_num_threads(self.config.torch_threads)
        self._computing = AdaptiveExecutor(self)
        self._settled = False
        """True from a `Restore` to the next `ListVersions`: updates are made and slices served."""
        self._shard: Shard
        """The slice, from the first `Restore` on."""
        self._readers = VersionStore(0, "whole", limit=1, compensating=False)
        self._size = 0
        self._gradients: dict[Ticket, Gradient] = {}
        """Until they are applied, discarded or forgotten."""
        self._discarded: set[Ticket] = set()
        """Tickets of gradients to be discarded on arrival."""
        self._decoded: dict[Ticket, Tensor] = {}
        """The checked gradients among them, decoded."""
        self._dead: dict[int, int] = {}
        """Each worker's last incarnation that has died."""
        self._recovery = RecoveryPoints(self, self.config.restore_within_updates, "shard_updates")
        self._changed = self.event()
        self._stopping = False

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = self.event()

    # Recovery.

    def on_drain(self) -> None:
        self._stopping = True
        self._note_change()

    @handles
    async def list_versions(self, _: ListVersions) -> VersionList:
        self._settled = False
        self._note_change()
        return VersionList(self._recovery.incarnation, self._recovery.versions)

    @handles
    async def restore(self, request: Restore) -> None:
        from actorq.learning.distributed.parameter_shard import Shard

        if request.initial is not None:
            self._shard = Shard(self.agent, request.initial)
            points = [point_of(self._shard, request.origin.incarnation)]
        else:
            points = self._recovery.up_to(request.origin)
            self._shard = Shard(self.agent, points[-1]["parameters"])
            self._shard.load_state(points[-1])
        config, self._size = self.config, request.size
        self._readers = VersionStore(
            request.incarnation, config.weights, config.kept_versions, request.compensating
        )
        self._gradients.clear()
        self._discarded.clear()
        self._decoded.clear()
        self._recovery.restart(self._shard, request.incarnation, points)
        self._settled = True
        self._note_change()

    # Gradients.

    @handles
    async def gradient(self, message: Gradient) -> None:
        if message.ticket in self._discarded:
            self._discarded.remove(message.ticket)
        elif not self._is_dead(message.ticket):
            self._gradients[message.ticket] = message
            self._note_change()

    @handles(concurrent=1024)
    async def slice_norm(self, request: GetSliceNorm) -> SliceNorm:
        while (message := self._gradients.get(request.ticket)) is None:
            self._check_settled()
            if self._is_dead(request.ticket):
                raise Refused(ENDED)
            if request.ticket in self._discarded:
                raise Refused("the gradient was discarded")
            await self._changed.wait()
        return SliceNorm(self._take(message))

    def _take(self, message: Gradient) -> float:
        """Decode a slice and return its squared norm. Raises Refused if it is unusable."""
        from actorq.learning.distributed.parameter_shard import decoded, square_norm

        self._check_settled()
        if message.version.incarnation != self._recovery.incarnation:
            raise Refused(
                f"a gradient of incarnation {message.version.incarnation}; the server is at"
                f" {self._recovery.incarnation}"
            )
        try:
            tensor = decoded(message.slice, self._shard.vector)
        except ValueError as error:
            raise Refused(str(error)) from error
        norm = square_norm(tensor)
        if not math.isfinite(norm):
            raise Refused("the gradient holds NaN or infinite numbers")
        self._decoded[message.ticket] = tensor
        return norm

    def _is_dead(self, ticket: Ticket) -> bool:
        return ticket.incarnation <= self._dead.get(ticket.worker, -1)

    def _drop(self, ticket: Ticket) -> None:
        """Drop a gradient, and the versions sent to the worker before the one it was computed from."""
        gradient = self._gradients.pop(ticket, None)
        self._decoded.pop(ticket, None)
        if gradient is not None:
            self._readers.handed(ticket.worker, gradient.version.updates)

    def _check_settled(self) -> None:
        if not self._settled:
            raise Refused(RESTORING)
        if self._stopping:
            raise Stopping

    # Updates.

    @handles
    async def combine(self, request: Combine) -> SliceNorm:
        if not (self._settled and request.incarnation == self._recovery.incarnation):
            raise Refused(RESTORING)
        gradients = [self._gradient_of(ticket, request.compensation) for ticket in request.tickets]
        norm = await self._computing(self._shard.combine, gradients, request.factors)
        for ticket in request.tickets:
            self._drop(ticket)
        return SliceNorm(norm)

    def _gradient_of(self, ticket: Ticket, compensation: float) -> Tensor:
        gradient = self._decoded[ticket]
        if not compensation:
            return gradient
        from actorq.learning.distributed.codecs import read_only_tensor
        from actorq.learning.distributed.parameter_shard import compensated

        then = self._readers.handed(ticket.worker, self._gradients[ticket].version.updates)
        if then is None:  # computed from a version that was not fetched from this shard
            return gradient
        return compensated(gradient, self._shard.vector, read_only_tensor(then), compensation)

    @handles
    async def apply(self, update: Apply) -> None:
        if not (self._settled and update.incarnation == self._recovery.incarnation):
            return
        gradient = None if update.ticket is None else self._decoded[update.ticket]
        await self._computing(self._shard.apply, gradient, update.factor, update.step)
        if update.ticket is not None:
            self._drop(update.ticket)
        self._recovery.note_update()

    @handles
    async def discard(self, message: Discard) -> None:
        for ticket in message.tickets:
            if ticket not in self._gradients:
                self._discarded.add(ticket)
            self._drop(ticket)
        self._note_change()

    @handles
    async def forget(self, message: Forget) -> None:
        self._dead[message.worker] = message.incarnation
        for ticket in [ticket for ticket in self._gradients if self._is_dead(ticket)]:
            self._drop(ticket)
        self._discarded = {ticket for ticket in self._discarded if not self._is_dead(ticket)}
        self._note_change()
        self._readers.forget(message.worker)

    # Readers.

    @handles
    async def keep(self, message: Keep) -> None:
        if self._settled and message.incarnation == self._recovery.incarnation:
            self._readers.add(message.updates, self._shard.keep())
            self._note_change()

    @handles(concurrent=1024)
    async def fetch(self, request: Fetch) -> Fetched:
        updates = request.version.updates
        while True:
            self._check_settled()
            if request.version.incarnation != self._recovery.incarnation:
                raise Refused(RESTORING)
            if self._readers.has(updates):
                return self._readers.fetched(request)
            if self._readers.is_gone(updates):
                raise Refused(f"version {updates} is no longer kept; pull again")
            await self._changed.wait()

    # State.

    def state(self) -> State:
        if self._recovery.is_empty:
            return {}
        return {"size": self._size, "optimizer": self.agent.optimizer, **self._recovery.state()}

    def load_state(self, state: State) -> None:
        if state:
            self._size = state["size"]
            self._recovery.load_state(state)
