"""The memory, or one shard of it: takes chunks in and draws from them, at the pace of the rate limiter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

import actorq.actors as actors
from actorq.actors import ActorSpec, Ref, Refused, State, handles
from actorq.replay.buffer import Drawn
from actorq.replay.config import ReplayConfig
from actorq.replay.experience import Transitions

from .gate import STOPPING, Gate
from .messages import (
    AdmitInsert,
    AdmitSample,
    Insert,
    Inserted,
    Sample,
    Sampled,
    UpdatePriorities,
    Version,
    Withdraw,
)
from .sizing import explorers_of, replay_memory
from .turnstile import Turnstile

NOTHING = Drawn(
    np.empty(0, np.int64),
    np.empty(0),
    Transitions(
        observations=np.empty(0, np.float32),
        actions=np.empty(0, np.int64),
        returns=np.empty(0, np.float32),
        discounts=np.empty(0, np.float32),
        next_observations=np.empty(0, np.float32),
    ),
)
"""What is drawn where a shard has no part."""


class Replay(actors.Actor):
    """A replay, uniform or prioritized: alone behind its own rate limiter, or a shard behind a common one.

    Inserts and samples wait beside each other, each for what the limiter asks of the other; new priorities
    come by id, and those that come too late are ignored and counted.
    """

    class Config(ReplayConfig, actors.Config, frozen=True, kw_only=True):
        pass

    one_state = True

    limiter: Ref[AdmitInsert | AdmitSample | Withdraw] | None

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return ((f"config.{field}", sentence) for field, sentence in config.faults())

    @classmethod
    def wiring_faults(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        wired = "limiter" in spec.ports
        if spec.count > 1 and not wired:
            yield "ports.limiter", 'several shards keep one pace: wire it to an actor of role "rate_limiter"'
        if wired and cast(ReplayConfig, spec.config).samples_per_insert is not None:
            yield (
                "config.samples_per_insert",
                "the pace is the rate limiter's, at ports.limiter: set it there",
            )

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        return replay_memory(cast(ReplayConfig, spec.config), explorers_of(spec.name, specs.values()))

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        return ((f"config.{field}", sentence) for field, sentence in config.state_faults(state["replay"]))

    async def on_start(self) -> None:
        from actorq.replay import make_replay

        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        self._replay = await self.in_thread(partial(make_replay, self.config, seed=self.seed))
        self._gate = Gate(self.config, self.event) if self.limiter is None else None
        self._draws = Turnstile(self._may_draw, self.event)
        self._batches = 0
        self._newest = Version(0, 0)
        self._stopping = False

    @handles(concurrent=1024)
    async def insert(self, request: Insert) -> Inserted:
        count = len(request.chunk)
        await self._admit_insert(count)
        try:
            ids = self._replay.add(request.chunk)
        except ValueError as error:
            await self._withdraw(count)
            raise Refused(str(error)) from error
        self._report_insert(request.version)
        self._draws.advance()
        return Inserted(ids.start, count)

    @handles(concurrent=64)
    async def sample(self, request: Sample) -> Sampled:
        if self._stopping:
            raise Refused(STOPPING)
        self._newest = request.version
        admit = request.count if request.admit is None else request.admit
        if admit:
            await self._admit_sample(admit)
        return await self._draws.pass_through(request.count, partial(self._draw, request))

    @handles
    async def update_priorities(self, message: UpdatePriorities) -> None:
        try:
            late = self._replay.update(message.ids, message.priorities)
        except ValueError as error:
            raise Refused(str(error)) from error
        self.observe("priority", message.priorities)
        if late:
            self.progress("late_priorities", late)

    def _may_draw(self, count: int) -> bool:
        return count == 0 or len(self._replay) > 0

    def _draw(self, request: Sample) -> Sampled:
        beta = self.config.beta(self._batches)
        self._batches += request.batches
        drawn = self._replay.draw(request.count) if request.count else NOTHING
        self.observe("age", self._replay.next_id - 1 - drawn.ids)
        return Sampled(drawn.ids, drawn.probabilities, drawn.transitions, self._replay.total, beta)

    def _report_insert(self, version: Version) -> None:
        self.report("replay_size", len(self._replay))
        if self._gate is not None:
            self._gate.report(self)
        if version.incarnation == self._newest.incarnation and not self._stopping:
            self.observe("weights_staleness", max(0, self._newest.updates - version.updates))

    # The pace: one's own, or that of all shards.

    async def _admit_insert(self, count: int) -> None:
        if self._gate is not None:
            await self._gate.insert(count)
        elif self.limiter is not None:
            await self.limiter.ask(AdmitInsert(count))

    async def _admit_sample(self, count: int) -> None:
        if self._gate is not None:
            await self._gate.sample(count)
        elif self.limiter is not None:
            await self.limiter.ask(AdmitSample(count))

    async def _withdraw(self, count: int) -> None:
        if self._gate is not None:
            self._gate.withdraw(count)
        elif self.limiter is not None:
            await self.limiter.tell(Withdraw(count))

    def on_drain(self) -> None:
        self._stopping = True
        if self._gate is not None:
            self._gate.drain()
        self._draws.turn_back(Refused(STOPPING))

    def state(self) -> State:
        return {
            "replay": self._replay.state(),
            "gate": None if self._gate is None else self._gate.state(),
            "batches": self._batches,
        }

    def load_state(self, state: State) -> None:
        self._replay.load_state(state["replay"])
        if self._gate is not None and state["gate"] is not None:
            self._gate.load_state(state["gate"])
        self._batches = state["batches"]
