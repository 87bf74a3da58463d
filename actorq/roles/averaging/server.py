"""The averaging server: synchronizes learners with own parameters (local SGD, elastic averaging)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorSpec, Refused, SettingProblem, State, Stopping, Topic, handles
from actorq.actors.runtime.wiring import senders
from actorq.actors.sync import Future
from actorq.learning.distributed.averaging_rules import Elasticity, RuleName, make_averaging_rule
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.incarnation_fence import ENDED, IncarnationFence
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import network_problems
from actorq.roles.replay.messages import Version, Weights

from .messages import JoinAveraging, Synchronize, Synchronized


class AveragingServer(LearningActor):
    """Averages the parameters of learners that otherwise learn independently, each from its own replay.

    It holds the *center variable* (Zhang et al. 2015): learners start from it and are moved towards it at
    each synchronization; evaluators use it. The others do not wait for a learner that has died, whose next
    incarnation starts from the center. The server saves a snapshot at every synchronization, and restarts
    from there with the learners that were learning then.
    """

    class Config(actors.Config):
        rule: Annotated[
            RuleName,
            Meta(
                description="mean: all learners continue from their mean; elastic: each moves towards the"
                " center alone"
            ),
        ] = "mean"
        elasticity: Annotated[
            Elasticity | None,
            Meta(
                description="the share of their distance by which an `elastic` learner and the center move; "
                "absent: 0.9 / learners"
            ),
        ] = None

    renamed_keys = {"ports.learners": ""}  # noqa: RUF012
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        if config.elasticity is not None and config.rule != "elastic":
            yield "config.elasticity", f'is of rule = "elastic", not of "{config.rule}"'

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        if not senders(spec.name, Synchronize, specs):
            yield "ports", f'no learner has the port root = "{spec.name}"'

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        return network_problems(tables, state["parameters"])

    async def on_start(self) -> None:
        await self.load_torch()
        self._names = self.senders(Synchronize)
        for name in self._names:
            self.watch(name)
        self._rule = make_averaging_rule(self.config.rule, self.config.elasticity, len(self._names))
        self._incarnations = IncarnationFence(len(self._names))
        self._center = self.initial_parameters()
        self._updates = 0
        self._waiting: dict[int, tuple[Synchronize, Future[Synchronized]]] = {}
        """Each waiting learner's request, and its reply."""
        self._bytes_in = self._bytes_out = 0
        self._computing = AdaptiveExecutor(self)
        self._stopping = False
        self._changed = self.event()

    @property
    def version(self) -> Version:
        """Version of the center; its updates are those of all learners together, up to their last
        synchronization.
        """
        return Version(self.restarts, self._updates)

    # Requests of learners.

    @handles
    async def join(self, request: JoinAveraging) -> Synchronized:
        learner = self._number_of(request)
        self._leave(learner)
        if request.learning:
            self._rule.learns(learner)
        return self._reply(self._center)

    @handles(concurrent=1024)
    async def synchronize(self, request: Synchronize) -> Synchronized:
        learner = self._number_of(request)
        self._check(request.parameters)
        self._bytes_in += request.parameters.nbytes
        self._refuse(learner, Refused("the learner has sent a newer request"))
        reply = Future[Synchronized](self)
        self._waiting[learner] = request, reply
        self._rule.arrived(learner)
        self._changed.set()
        return await reply.wait()

    def _number_of(self, request: JoinAveraging | Synchronize) -> int:
        """The learner's number. Raises Refused if it is unknown or has died, and when stopping."""
        if self._stopping:
            raise Stopping
        if request.learner not in self._names:
            raise Refused(f"{request.learner} is not one of the learners: {', '.join(self._names)}")
        learner = self._names.index(request.learner)
        self._incarnations.admit(learner, request.incarnation)
        return learner

    def _check(self, parameters: NDArray[Any]) -> None:
        mine = self._center
        if parameters.shape != mine.shape or parameters.dtype != mine.dtype:
            raise Refused(
                f"parameters {list(parameters.shape)} in {parameters.dtype}; "
                f"the center is {list(mine.shape)} in {mine.dtype}"
            )
        if not np.isfinite(parameters).all():
            raise Refused("there are NaN or infinite numbers among the parameters")

    def _reply(self, parameters: NDArray[Any]) -> Synchronized:
        self._bytes_out += parameters.nbytes
        return Synchronized(self.version, parameters)

    async def on_down(self, name: str, incarnation: int) -> None:
        learner = self._names.index(name)
        self._incarnations.end(learner, incarnation)
        self._leave(learner)

    def _leave(self, learner: int) -> None:
        """Mark the learner as making no updates at present, and refuse its pending request."""
        self._rule.left(learner)
        self._refuse(learner, Refused(ENDED))
        self._changed.set()

    def _refuse(self, learner: int, refusal: Refused) -> None:
        if learner in self._waiting:
            _, reply = self._waiting.pop(learner)
            reply.fail(refusal)

    def on_drain(self) -> None:
        self._stopping = True
        for learner in list(self._waiting):
            self._rule.left(learner)
            self._refuse(learner, Stopping())

    # Synchronizations, one after the other.

    async def run(self) -> None:
        await self._publish()
        while True:
            while learners := self._rule.next():
                await self._average(learners)
            await self._changed.wait()
            self._changed = self.event()

    async def _average(self, learners: tuple[int, ...]) -> None:
        """Synchronize these learners. If cancelled, they keep waiting."""
        waiting = [self._waiting[learner] for learner in learners]
        vectors = [request.parameters for request, _ in waiting]
        result = await self._computing(self._rule.synchronize, self._center, vectors)
        made = sum(request.updates for request, _ in waiting)
        self._center, self._updates = result.center, self._updates + made
        for learner, each, answer in zip(learners, waiting, result.answers, strict=True):
            if self._waiting.get(learner) is each:  # otherwise the learner has died meanwhile
                del self._waiting[learner]
            _, reply = each
            reply.set(self._reply(answer))
        self._account(len(waiting), made, result.distances)
        self.keep_snapshot()
        await self._publish()

    def _account(self, learners: int, made: int, distances: list[float]) -> None:
        self.progress("meetings")
        self.report("learners_met", learners)
        for distance in distances:
            self.report("distance_to_centre", distance)
        self.report("bytes_in_per_update", self._bytes_in / max(made, 1))
        self.report("bytes_out_per_update", self._bytes_out / max(made, 1))
        self._bytes_in = self._bytes_out = 0

    async def _publish(self) -> None:
        await self.weights.publish(Weights(self.version, self._center))

    def state(self) -> State:
        return {
            "parameters": self._center,
            "updates": self._updates,
            "learning": [self._names[learner] for learner in self._rule.learning],
        }

    def load_state(self, state: State) -> None:
        self._center, self._updates = np.array(state["parameters"]), state["updates"]
        for name in state["learning"]:
            if name in self._names:
                self._rule.learns(self._names.index(name))
