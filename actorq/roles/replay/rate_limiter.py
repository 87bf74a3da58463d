"""The rate limiter as an actor: the one owner of the pace that several replay shards keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import actorq.actors as actors
from actorq.actors import State, handles
from actorq.replay.config import LimiterConfig

from .messages import AdmitInsert, AdmitSample, Admitted, Withdraw
from .rate_limit_gate import RateLimitGate


class RateLimiterActor(actors.Actor):
    """Admits inserts and samples of all shards together, each waiting for what it asks of the other.

    What is admitted counts at once. What a shard then can't take is withdrawn; what was on its way to a shard
    that died stays counted, one chunk at most.
    """

    class Config(LimiterConfig, actors.Config, frozen=True, kw_only=True):
        pass

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return ((f"config.{field}", sentence) for field, sentence in config.problems())

    async def on_start(self) -> None:
        self._gate = RateLimitGate(self, self.config)

    @handles(concurrent=1024)
    async def admit_insert(self, request: AdmitInsert) -> Admitted:
        await self._gate.insert(request.count, at_once=request.at_once)
        self._gate.report()
        return Admitted()

    @handles(concurrent=64)
    async def admit_sample(self, request: AdmitSample) -> Admitted:
        await self._gate.sample(request.count)
        return Admitted()

    @handles
    async def withdraw(self, message: Withdraw) -> None:
        self._gate.withdraw(message.count)

    def on_drain(self) -> None:
        self._gate.drain()

    def state(self) -> State:
        return self._gate.state()

    def load_state(self, state: State) -> None:
        self._gate.load_state(state)
