"""Coordinator of a parameter server: orders the updates, and applies the update rule."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import anyio
from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorDied, ActorSpec, Group, Refused, SettingProblem, Stopping, Topic, handles
from actorq.actors.runtime.wiring import senders
from actorq.actors.sync import Future, Timeout
from actorq.learning.distributed.batch_sizing import BatchSizing, least_rows
from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings
from actorq.learning.distributed.update_rules import Offer, Round, make_update_rule
from actorq.roles.common.backoff import backoff_seconds
from actorq.roles.common.incarnation_fence import ENDED, IncarnationFence
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.replay.messages import Version, Weights

from .messages import (
    Apply,
    Combine,
    Discard,
    Fetch,
    Forget,
    GetSliceNorm,
    Keep,
    ListVersions,
    Pull,
    Pulled,
    Push,
    Pushed,
    Restore,
    Ticket,
)
from .pending import NOBODY, DeliveryState, PendingPull, PendingPush, PendingRequests
from .recovery import RESTORING, restore
from .weights_reader import WeightPublisher

RESTORED = "the parameter server was restored: the gradient is of an earlier incarnation; pull again"

Order = Apply | Keep | Discard | Forget


class ParameterCoordinator(LearningActor):
    """Orders the updates of a parameter server whose parameters are sharded (Li et al. 2014); it holds none.

    A worker sends a gradient to the shards in slices, and its ticket to the coordinator, which has each shard
    check its slice, applies the update rule, and sends all shards the same commands in the same order. So
    each gradient is applied once or never, and all slices of a version that is read are consistent. After the
    death of a shard or of the coordinator all shards are restored to the newest version that they have in
    common, under a new incarnation.
    """

    class Config(UpdateRuleSettings, actors.Config, frozen=True, kw_only=True):
        publish_every_updates: Annotated[
            int, Meta(ge=1, description="updates between two publications of weights")
        ] = 16

    renamed_keys = {"ports.workers": ""}  # noqa: RUF012
    servers: Group[GetSliceNorm | Combine | Apply | Keep | Discard | Forget | Fetch | ListVersions | Restore]
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        yield from ((f"config.{field}", sentence) for field, sentence in config.problems())

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        if not senders(spec.name, Push, specs):
            yield "ports", f'no actor that pushes gradients has the port coordinator = "{spec.name}"'

    async def on_start(self) -> None:
        self._workers = self.senders(Push)
        for field, sentence in self.config.problems(len(self._workers)):
            raise ValueError(f"actors.{self.name}.config.{field}: {sentence}")
        await self.load_torch()
        self._incarnation = self._updates = 0
        self._stopping = self._lost = self._settled = False
        self._changed = self.event()
        self._orders: deque[Order] = deque()
        self._pending = PendingRequests()
        self._incarnations = IncarnationFence(len(self._workers))
        self._numbers: dict[int, Ticket] = {}
        """Each worker's newest gradient."""
        self._kept: int | None = None
        self._bytes_in = self._bytes_out = 0
        self._rule = make_update_rule(self.config, len(self._workers))
        self._batch_sizing: BatchSizing | None = None
        if self.config.deal == "speed":
            batch_size = self.agent.batch_size
            least = least_rows(batch_size, len(self.all_tasks))
            self._batch_sizing = BatchSizing(len(self._workers), batch_size, least)
        self._straggler_timeout = Timeout(self, self.config.wait_at_most_seconds, self._end_round)
        self._publisher = WeightPublisher(
            self, self.servers, self.weights, partial(self._read, NOBODY, 0, False)
        )
        for name in (*self._workers, *(server.name for server in self.servers)):
            self.watch(name)

    def _note_change(self) -> None:
        self._changed.set()

    # Requests of workers.

    @handles(concurrent=1024)
    async def pull(self, request: Pull) -> Pulled:
        self._incarnations.admit(request.worker, request.incarnation)
        if not request.computing:
            self._rule.idle(request.worker)
        return await self._read(request.worker, request.incarnation, request.computing)

    async def _read(self, worker: int, incarnation: int, computing: bool) -> Pulled:
        reader = PendingPull(worker, incarnation, computing, Future(self))
        self._pending.readers.append(reader)
        pulled = await self._reply_to(reader)
        assert pulled is not None
        return pulled

    @handles(concurrent=1024)
    async def push(self, request: Push) -> Pushed:
        ticket = request.ticket
        self._incarnations.admit(ticket.worker, ticket.incarnation)
        self._take_number(ticket)
        if self._batch_sizing is not None:
            self._batch_sizing.arrived(ticket.worker, request.rows, self.now())
        try:
            norm = await self._gradient_norm(request)
        except Refused as refusal:
            if not isinstance(refusal, Stopping):
                self.progress("gradients_refused")
            self._order(Discard((ticket,)))
            raise
        self._bytes_in += request.bytes
        self._bytes_out += request.bytes_fetched
        pending = PendingPush(ticket.worker, ticket.incarnation, True, Future(self), request, norm)
        if self._rule.waits:
            self._refuse_pushes_of(ticket.worker, "the worker has pushed another one")
        offer = Offer(ticket.worker, request.version.updates, request.rows)
        self._pending.add(offer, pending)
        self._rule.offered(offer)
        if self.config.rule == "softsync":  # no worker waits for the others of a round
            self._reply(pending)
        pulled = await self._reply_to(pending)
        return Pushed(pending.delivery_state, pulled)

    def _take_number(self, ticket: Ticket) -> None:
        """Register a ticket: each gradient is pushed once. Raises Refused."""
        newest = self._numbers.get(ticket.worker)
        if newest is not None and ticket <= newest:
            raise Refused(f"gradient {ticket.number} of this incarnation of the worker was pushed already")
        self._numbers[ticket.worker] = ticket

    def _refuse_pushes_of(self, worker: int, reason: str) -> None:
        """Refuse the worker's pending pushes."""
        for pending in self._pending.take_of(worker):
            self._order(Discard((pending.request.ticket,)))
            pending.reply.fail(Refused(reason))

    async def _reply_to(self, reader: PendingPull) -> Pulled | None:
        self._note_change()
        if self._stopping:
            raise Stopping
        return await reader.reply.wait()

    async def _gradient_norm(self, push: Push) -> float:
        """The gradient's Euclidean norm over all shards. Raises Refused for one that can't be applied."""
        self._check(push)
        try:
            norms = await self.servers.all().ask(GetSliceNorm(push.ticket))
        except ActorDied:
            raise Refused(RESTORING) from None
        except Refused as refusal:
            if refusal.reason == RESTORING and push.version.incarnation == self._incarnation:
                self._lost = True  # a shard has restarted, and waits to be restored
            raise
        self._check(push)  # the server may have been restored meanwhile, or the worker have died
        return math.sqrt(sum(slice.square_norm for slice in norms))

    def _check(self, push: Push) -> None:
        if self._stopping:
            raise Stopping
        if not self._settled:
            raise Refused(RESTORING)
        self._incarnations.admit(push.ticket.worker, push.ticket.incarnation)
        if push.rows < 1:
            raise Refused(f"a gradient is a mean over at least 1 transition; this one is over {push.rows}")
        version = push.version
        if version.incarnation != self._incarnation:
            raise Refused(
                f"a gradient of incarnation {version.incarnation}; the server is at {self._incarnation}"
            )
        if version.updates < 0:
            raise Refused(f"there is no version {version.updates}")
        if version.updates > self._updates:
            raise Refused(
                f"a gradient of version {version.updates}, from the future: the server is at {self._updates}"
            )

    # Death watch.

    async def on_down(self, name: str, incarnation: int) -> None:
        if name in self._workers:
            self._worker_down(self._workers.index(name), incarnation)
        else:  # all shards have to be restored
            self._lost = True
            self._note_change()

    def _worker_down(self, worker: int, incarnation: int) -> None:
        """Drop the worker's requests, and let no round wait for it."""
        self._incarnations.end(worker, incarnation)
        self._rule.left(worker)
        if self._batch_sizing is not None:
            self._batch_sizing.left(worker)
        self._refuse_pushes_of(worker, ENDED)
        self._pending.refuse_readers_of(worker, Refused(ENDED))
        self._order(Forget(worker, incarnation))

    def _end_round(self) -> None:
        """The straggler timeout (Chen et al. 2016) has passed: make the round with those that are there."""
        self._rule.wait_no_longer()
        self._note_change()

    # One task sends everything to the shards, so that all receive it in the same order.

    async def run(self) -> None:
        self.start_soon(self._straggler_timeout.run)
        if self.weights.subscribers:
            self.start_soon(self._publisher.run, self.initial_parameters())
        failures = 0
        while True:
            try:
                await self._restore()
                failures = 0
                while not self._lost:
                    await self._advance()
                    await self._changed.wait()
                    self._changed = self.event()
            except (ActorDied, Refused):  # a shard died during a request, or has restarted
                self._lost = True
                failures += 1
                await self.sleep(backoff_seconds(failures))

    async def _restore(self) -> None:
        self._settled = self._lost = False  # a shard that dies from here on is restored again
        self._pending.refuse_pushes(Refused(RESTORED))
        self._pending.clear()
        self._straggler_timeout.follow(False)
        skipping = self.restarts  # incarnations whose snapshots were lost together with the coordinator
        version, compensating = Version(self._incarnation, self._updates), self.config.stale == "compensate"
        version = await restore(self.servers, self.initial_parameters, version, skipping, compensating)
        self._incarnation, self._updates = version.incarnation, version.updates
        self._rule = make_update_rule(self.config, len(self._workers))
        for worker in self._incarnations.down():
            self._rule.left(worker)
        self._kept, self._settled = None, True
        self._note_change()

    async def _advance(self) -> None:
        """Apply all rounds that are complete by the rule, and answer their readers."""
        while True:
            round = self._rule.next(self._updates)
            self._settle_dropped()
            self._straggler_timeout.follow(round is None and self._pending.has_pushes)
            if round is not None:
                await self._apply(round)
                if self._batch_sizing is not None:
                    self._batch_sizing.begin_round()
            while self._orders:
                await self._tell(self._orders.popleft())
            await self._hand_out()
            if round is None or self._lost:
                return

    async def _tell(self, order: Order) -> None:
        """Send to all shards or, cancelled before, to none: otherwise their slices would diverge."""
        with anyio.CancelScope(shield=True):
            await self.servers.all().tell(order)

    def _order(self, order: Order) -> None:
        self._orders.append(order)
        self._note_change()

    async def _apply(self, round: Round) -> None:
        pushes = [self._pending.take(offer) for offer in round.offers]
        try:
            ticket, norm = await self._combined(pushes, round)
        except BaseException as error:  # cancellation too: these pushes are in no other list
            refusal = Refused(RESTORED) if isinstance(error, ActorDied | Refused) else Stopping()
            for push in pushes:
                push.reply.fail(refusal)
            raise
        if not math.isfinite(norm):
            for push in pushes:
                self.progress("gradients_refused")
                push.reply.fail(Refused("together with others it is NaN or infinite"))
            return
        maximum = self.agent.max_gradient_norm
        factor = 1.0 if maximum is None or norm <= maximum else maximum / norm
        await self._tell(Apply(self._incarnation, self._updates + 1, ticket, factor, sum(round.factors)))
        self._updates += 1
        self._account(pushes, round, norm)
        if self._updates % self.config.publish_every_updates == 0:
            self._publisher.note_due()

    async def _combined(self, pushes: list[PendingPush], round: Round) -> tuple[Ticket | None, float]:
        """The ticket to apply, or None for the mean that the shards have combined; and its norm.

        The rule's factors are the weights of the mean, and their sum scales the step: an optimizer that
        normalizes would undo a scaling of the gradient. A mean is clipped by its own norm.
        """
        if len(pushes) == 1 and not round.compensation:
            return pushes[0].request.ticket, pushes[0].norm
        tickets = tuple(push.request.ticket for push in pushes)
        weights = tuple(factor / sum(round.factors) for factor in round.factors)
        combine = Combine(self._incarnation, tickets, weights, round.compensation)
        norms = await self.servers.all().ask(combine)
        return None, math.sqrt(sum(slice.square_norm for slice in norms))

    def _account(self, pushes: list[PendingPush], round: Round, norm: float) -> None:
        """Report the update, and answer its pushes."""
        self.progress("updates")
        self.report("gradient_norm", norm)
        self.report("bytes_in_per_update", self._bytes_in)
        self.report("bytes_out_per_update", self._bytes_out)
        self._bytes_in = self._bytes_out = 0
        for push in pushes:
            staleness = self._updates - 1 - push.request.version.updates
            self.report("staleness", staleness)
            scaled = self.config.stale == "scale" and staleness > 1
            self._settle(push, "scaled" if scaled else "accepted")

    def _settle_dropped(self) -> None:
        for offer, reason in self._rule.take_dropped():
            pending = self._pending.take(offer)
            self._order(Discard((pending.request.ticket,)))
            self._settle(pending, "late" if reason == "late" else "stale")

    def _settle(self, pending: PendingPush, delivery_state: DeliveryState) -> None:
        self.progress(f"gradients_{delivery_state}")
        pending.delivery_state = delivery_state
        if self.config.rule != "softsync":
            self._reply(pending)

    def _reply(self, pending: PendingPush) -> None:
        """Answer a push: with the new version or, where the worker and the rule allow it, without."""
        if pending.request.reads or self.config.rule in ("synchronous", "bounded"):
            self._pending.readers.append(pending)
        else:
            pending.reply.set(None)

    # Pulls.

    async def _hand_out(self) -> None:
        """Have the shards keep the current version, if a reader waits for one, and send its number to all
        readers.
        """
        if not self._pending.readers:
            return
        if self._kept != self._updates:
            await self._tell(Keep(self._incarnation, self._updates))
            self._kept = self._updates
        target_updates = self.agent.target_updates(self._updates)
        version = Version(self._incarnation, self._updates)
        for reader in self._pending.take_readers():
            if reader.reply.is_set:
                continue
            rows = None
            if reader.computing and not self._incarnations.has_ended(reader.worker, reader.incarnation):
                self._rule.computing(reader.worker, self._updates)
                if self._batch_sizing is not None:
                    rows = self._batch_sizing.handed(reader.worker, self.now())
            reader.reply.set(Pulled(version, target_updates, rows))

    def on_drain(self) -> None:
        self._stopping = True
        self._pending.refuse_pushes(Stopping())
        self._pending.refuse_readers(Stopping())
