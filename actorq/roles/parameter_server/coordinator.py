"""A parameter server's front: numbers the updates, and says when gradients become one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import anyio
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorDied, Group, Refused, Topic, handles
from actorq.learning.distributed.batch_sizing import BatchSizing, least_rows
from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings
from actorq.learning.distributed.update_rules import Offer, Round, make_update_rule
from actorq.roles.common.death_watch import DIED, Lives, attend, pause_after
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.replay.messages import Version, Weights
from actorq.roles.replay.rate_limit_gate import STOPPING

from .messages import (
    Apply,
    Attend,
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
from .straggler_timeout import StragglerTimeout
from .weight_publisher import WeightPublisher

RESTORED = "the parameter server was restored: the gradient is of an earlier incarnation; pull again"

Order = Apply | Keep | Discard | Forget


class ParameterCoordinator(LearningActor):
    """Orders the updates of a parameter server whose parameters lie in shards.

    It holds no parameters. A gradient goes to the shards in slices and to the front by name; the front has
    each shard check its slice, asks the update rule when it is to be applied, and tells all shards the same
    orders in the same sequence: each gradient is applied once or never, and a version that is read is one
    that was. Should a shard or the front die, all shards go back to the newest version that they have in
    common, under a new incarnation.
    """

    class Config(UpdateRuleSettings, actors.Config, frozen=True, kw_only=True):
        publish_every_updates: Annotated[
            int, Meta(ge=1, description="updates between two weights for those who only act")
        ] = 16

    servers: Group[
        GetSliceNorm | Combine | Apply | Keep | Discard | Forget | Fetch | ListVersions | Restore | Attend
    ]
    workers: Group[Attend]
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from super().problems(config, tables)
        yield from ((f"config.{field}", sentence) for field, sentence in config.problems())

    async def on_start(self) -> None:
        for field, sentence in self.config.problems(len(self.workers)):
            raise ValueError(f"actors.{self.name}.config.{field}: {sentence}")
        await self.in_thread(import_module, "torch")  # takes seconds
        self._incarnation = self._updates = 0
        self._stopping = self._lost = self._settled = False
        self._changed = self.event()
        self._orders: deque[Order] = deque()
        self._waiting = PendingRequests()
        self._incarnations = Lives(len(self.workers))
        self._numbers: dict[int, Ticket] = {}
        """Each worker's newest gradient."""
        self._kept: int | None = None
        self._bytes_in = self._bytes_out = 0
        self._rule = make_update_rule(self.config, len(self.workers))
        self._dealing: BatchSizing | None = None
        if self.config.deal == "speed":
            batch_size = self.agent.batch_size
            least = least_rows(batch_size, len(self.all_tasks))
            self._dealing = BatchSizing(len(self.workers), batch_size, least)
        self._patience = StragglerTimeout(self, self.config.wait_at_most_seconds, self._wait_no_longer)
        self._publisher = WeightPublisher(
            self, self.servers, self.weights, partial(self._read, NOBODY, 0, False)
        )

    def _note_change(self) -> None:
        self._changed.set()

    # Workers ask.

    @handles(concurrent=1024)
    async def pull(self, request: Pull) -> Pulled:
        self._incarnations.hear(request.worker, request.incarnation)
        if not request.computing:
            self._rule.idle(request.worker)
        return await self._read(request.worker, request.incarnation, request.computing)

    async def _read(self, worker: int, incarnation: int, computing: bool) -> Pulled:
        reader = PendingPull(
            worker=worker, incarnation=incarnation, computing=computing, answered=self.event()
        )
        self._waiting.readers.append(reader)
        await self._answer(reader)
        assert reader.pulled is not None
        return reader.pulled

    @handles(concurrent=1024)
    async def push(self, request: Push) -> Pushed:
        ticket = request.ticket
        self._incarnations.hear(ticket.worker, ticket.incarnation)
        self._take_number(ticket)
        if self._dealing is not None:
            self._dealing.came(ticket.worker, request.rows, self.now())
        try:
            norm = await self._weigh(request)
        except Refused as refusal:
            if refusal.reason != STOPPING:
                self.progress("gradients_refused")
            self._order(Discard((ticket,)))
            raise
        self._bytes_in += request.bytes
        self._bytes_out += request.bytes_fetched
        worker, incarnation = ticket.worker, ticket.incarnation
        answered = self.event()
        held = PendingPush(
            worker=worker, incarnation=incarnation, computing=True, answered=answered, push=request, norm=norm
        )
        if self._rule.waits:
            self._give_up(ticket.worker, "the worker has pushed another one")
        offer = Offer(ticket.worker, request.version.updates, request.rows)
        self._waiting.hold(offer, held)
        self._rule.offered(offer)
        if self.config.rule == "softsync":  # nobody waits for the others of a round
            self._answered(held)
        await self._answer(held)
        return Pushed(held.delivery_state, held.pulled)

    def _take_number(self, ticket: Ticket) -> None:
        """Each gradient is pushed once. Raises Refused."""
        newest = self._numbers.get(ticket.worker)
        if newest is not None and ticket <= newest:
            raise Refused(f"gradient {ticket.number} of this life of the worker was pushed already")
        self._numbers[ticket.worker] = ticket

    def _give_up(self, worker: int, reason: str) -> None:
        """Refuse what still waits of a worker's."""
        for held in self._waiting.take_of(worker):
            self._order(Discard((held.push.ticket,)))
            held.refuse(reason)

    async def _answer(self, reader: PendingPull) -> None:
        self._note_change()
        if self._stopping:
            raise Refused(STOPPING)
        await reader.answered.wait()
        if reader.refusal is not None:
            raise Refused(reader.refusal)

    async def _weigh(self, push: Push) -> float:
        """The gradient's norm over all shards. Raises Refused for one that can't be applied."""
        self._check(push)
        try:
            weighed = await self.servers.all().ask(GetSliceNorm(push.ticket))
        except ActorDied:
            raise Refused(RESTORING) from None
        except Refused as refusal:
            if refusal.reason == RESTORING and push.version.incarnation == self._incarnation:
                self._lost = True  # a shard lives anew, and waits to be restored
            raise
        self._check(push)  # much may have happened meanwhile, and the worker may have died
        return math.sqrt(sum(slice.square_norm for slice in weighed))

    def _check(self, push: Push) -> None:
        if self._stopping:
            raise Refused(STOPPING)
        if not self._settled:
            raise Refused(RESTORING)
        self._incarnations.hear(push.ticket.worker, push.ticket.incarnation)
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

    # Who lives.

    def _bury(self, worker: int) -> None:
        """Nothing more comes of a worker's life, and nobody is to wait for it."""
        incarnation = self._incarnations.end(worker)
        self._rule.left(worker)
        if self._dealing is not None:
            self._dealing.left(worker)
        self._give_up(worker, DIED)
        self._waiting.refuse_readers_of(worker, DIED)
        if incarnation is not None:
            self._order(Forget(worker, incarnation))
        self._note_change()

    def _wait_no_longer(self) -> None:
        """For those whose gradients are missing."""
        self._rule.wait_no_longer()
        self._note_change()

    def _lose(self) -> None:
        """A shard has died: all are to go back."""
        self._lost = True
        self._note_change()

    # Everything that goes to the shards goes from here, one after the other.

    async def run(self) -> None:
        for index, worker in enumerate(self.workers):
            self.start_soon(attend, self, worker, partial(self._bury, index))
        for server in self.servers:
            self.start_soon(attend, self, server, self._lose, self._lose)
        self.start_soon(self._patience.run)
        if self.weights.subscribers:
            self.start_soon(self._publisher.run, self._initial())
        failures = 0
        while True:
            try:
                await self._restore()
                failures = 0
                while not self._lost:
                    await self._advance()
                    await self._changed.wait()
                    self._changed = self.event()
            except (ActorDied, Refused):  # a shard died over what it was asked, or lives anew already
                self._lost = True
                failures += 1
                await self.sleep(pause_after(failures))

    async def _restore(self) -> None:
        self._settled = self._lost = False  # a shard that dies from here on may have to be restored again
        self._waiting.refuse_held(RESTORED)
        self._waiting.let_go()
        self._patience.follow(False)
        version = await restore(
            self.servers,
            self._initial,
            above=self._incarnation,
            skipping=self.restarts,  # incarnations whose snapshots were lost together with the front
            reached=self._updates,
            compensating=self.config.stale == "compensate",
        )
        self._incarnation, self._updates = version.incarnation, version.updates
        self._rule = make_update_rule(self.config, len(self.workers))
        for worker in self._incarnations.dead():
            self._rule.left(worker)
        self._kept, self._settled = None, True
        self._note_change()

    def _initial(self) -> NDArray[Any]:
        """The parameters to begin with, the same in every life."""
        from actorq.envs.make import describe
        from actorq.learning.networks.factory import make_task_parameters

        spaces = [describe(task) for task in self.all_tasks]
        return make_task_parameters(self.agent, spaces, self.seed).read()

    async def _advance(self) -> None:
        """Apply all that the rule lets through, and hand out what came of it."""
        while True:
            round = self._rule.next(self._updates)
            self._settle_dropped()
            self._patience.follow(round is None and self._waiting.holds)  # the late ones are gone
            if round is not None:
                await self._apply(round)
                if self._dealing is not None:
                    self._dealing.begin_round()
            while self._orders:
                await self._tell(self._orders.popleft())
            await self._hand_out()
            if round is None or self._lost:
                return

    async def _tell(self, order: Order) -> None:
        """All shards, or none: cancelled in between, they would go apart."""
        with anyio.CancelScope(shield=True):
            await self.servers.all().tell(order)

    def _order(self, order: Order) -> None:
        self._orders.append(order)
        self._note_change()

    async def _apply(self, round: Round) -> None:
        held = [self._waiting.take(offer) for offer in round.offers]
        try:
            ticket, norm = await self._combined(held, round)
        except BaseException as error:  # the end of the run among them: nobody else knows who waits here
            reason = RESTORED if isinstance(error, ActorDied | Refused) else STOPPING
            for one in held:
                one.refuse(reason)
            raise
        if not math.isfinite(norm):
            for one in held:
                self.progress("gradients_refused")
                one.refuse("together with others it is NaN or infinite")
            return
        maximum = self.agent.max_gradient_norm
        factor = 1.0 if maximum is None or norm <= maximum else maximum / norm
        await self._tell(Apply(self._incarnation, self._updates + 1, ticket, factor, sum(round.factors)))
        self._updates += 1
        self._account(held, round, norm)
        if self._updates % self.config.publish_every_updates == 0:
            self._publisher.note_due()

    async def _combined(self, held: list[PendingPush], round: Round) -> tuple[Ticket | None, float]:
        """What to apply: a gradient's ticket, or None for a mean that the shards have made; and its norm.

        The rule's factors weigh the mean, and their sum is the step size's: an optimizer that normalizes
        would undo what is done to the gradient. A mean is clipped by its own norm.
        """
        if len(held) == 1 and not round.compensation:
            return held[0].push.ticket, held[0].norm
        tickets = tuple(one.push.ticket for one in held)
        weights = tuple(factor / sum(round.factors) for factor in round.factors)
        combine = Combine(self._incarnation, tickets, weights, round.compensation)
        weighed = await self.servers.all().ask(combine)
        return None, math.sqrt(sum(slice.square_norm for slice in weighed))

    def _account(self, held: list[PendingPush], round: Round, norm: float) -> None:
        """Report the update, and let those who pushed read what came of it."""
        self.progress("updates")
        self.report("gradient_norm", norm)
        self.report("bytes_in_per_update", self._bytes_in)
        self.report("bytes_out_per_update", self._bytes_out)
        self._bytes_in = self._bytes_out = 0
        for one in held:
            staleness = self._updates - 1 - one.push.version.updates
            self.report("staleness", staleness)
            scaled = self.config.stale == "scale" and staleness > 1
            self._settle(one, "scaled" if scaled else "accepted")

    def _settle_dropped(self) -> None:
        for offer, reason in self._rule.take_dropped():
            held = self._waiting.take(offer)
            self._order(Discard((held.push.ticket,)))
            self._settle(held, "late" if reason == "late" else "stale")

    def _settle(self, held: PendingPush, delivery_state: DeliveryState) -> None:
        self.progress(f"gradients_{delivery_state}")
        held.delivery_state = delivery_state
        if self.config.rule != "softsync":
            self._answered(held)

    def _answered(self, held: PendingPush) -> None:
        """Have it read what came of its gradient, unless it goes on with what it has, and may."""
        if held.push.reads or self.config.rule in ("synchronous", "bounded"):
            self._waiting.readers.append(held)
        else:
            held.answered.set()

    # Readers.

    async def _hand_out(self) -> None:
        """Have this version kept, if anybody waits for one, and say so."""
        if not self._waiting.readers:
            return
        if self._kept != self._updates:
            await self._tell(Keep(self._incarnation, self._updates))
            self._kept = self._updates
        target_updates = self.agent.target_updates(self._updates)
        version = Version(self._incarnation, self._updates)
        for reader in self._waiting.take_readers():
            if reader.refusal is not None:
                continue
            rows = None
            if reader.computing and not self._incarnations.is_over(reader.worker, reader.incarnation):
                self._rule.computing(reader.worker, self._updates)
                if self._dealing is not None:
                    rows = self._dealing.handed(reader.worker, self.now())
            reader.pulled = Pulled(version, target_updates, rows)
            reader.answered.set()

    def on_drain(self) -> None:
        self._stopping = True
        self._waiting.refuse_held(STOPPING)
        self._waiting.refuse_readers(STOPPING)
