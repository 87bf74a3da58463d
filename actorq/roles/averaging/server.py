"""The root of a tree of learners that keep parameters of their own, and meet there every so many updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorSpec, Group, Refused, State, Topic, handles
from actorq.actors.runtime.scheduler import Event
from actorq.learning.distributed.averaging_rules import Elasticity, RuleName, make_averaging_rule
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.death_watch import DIED, Lives, attend
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import network_problems
from actorq.roles.parameter_server.messages import Attend
from actorq.roles.replay.messages import Version, Weights
from actorq.roles.replay.rate_limit_gate import STOPPING

from .messages import JoinAveraging, Synchronize, Synchronized


@dataclass(eq=False, slots=True)
class WaitingLearner:
    """A learner that has come to meet."""

    meet: Synchronize
    answered: Event
    answer: Synchronized | None = None
    refusal: str = ""


class AveragingServer(LearningActor):
    """Averages the parameters of learners that otherwise learn by themselves, each from its own replay.

    It holds the *centre*: what learners begin with, come to with each meeting, and what evaluator see. A
    learner that dies is not waited for; its next life begins at the centre. The root's state is kept with
    every meeting: its own next life goes on from there, with those who learned then.
    """

    class Config(actors.Config):
        rule: Annotated[
            RuleName,
            Meta(
                description="mean: all meet, and go on from their mean; elastic: each meets the centre alone"
            ),
        ] = "mean"
        elasticity: Annotated[
            Elasticity | None,
            Meta(
                description="the share of their distance by which an `elastic` learner and the centre move; "
                "absent: 0.9 / learners"
            ),
        ] = None

    learners: Group[Attend]
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from super().problems(config, tables)
        if config.elasticity is not None and config.rule != "elastic":
            yield "config.elasticity", f'is of rule = "elastic", not of "{config.rule}"'

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        below = {other.name for other in specs.values() if spec.name in other.ports.get("root", ())}
        learners = set(spec.ports["learners"])
        if strangers := sorted(below - learners):
            yield "ports.learners", f"lacks {', '.join(strangers)}, whose port root leads here"
        if strays := sorted(learners - below):
            yield "ports.learners", f"names {', '.join(strays)}, whose port root doesn't lead here"

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        return network_problems(tables, state["parameters"])

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds
        self._names = [learner.name for learner in self.learners]
        self._rule = make_averaging_rule(self.config.rule, self.config.elasticity, len(self._names))
        self._incarnations = Lives(len(self._names))
        self._centre = self._initial()
        self._updates = 0
        self._waiting: dict[int, WaitingLearner] = {}
        self._bytes_in = self._bytes_out = 0
        self._computing = AdaptiveExecutor(self)
        self._stopping = False
        self._changed = self.event()

    def _initial(self) -> NDArray[Any]:
        """The parameters to begin with, the same in every life."""
        from actorq.envs.make import describe
        from actorq.learning.networks.factory import make_task_parameters

        spaces = [describe(task) for task in self.all_tasks]
        return make_task_parameters(self.agent, spaces, self.seed).read()

    @property
    def version(self) -> Version:
        """Of the centre; its updates are those of all learners together, up to where they met."""
        return Version(self.restarts, self._updates)

    # Learners ask.

    @handles
    async def join(self, request: JoinAveraging) -> Synchronized:
        learner = self._hear(request)
        self._leave(learner)
        if request.learning:
            self._rule.learns(learner)
        return self._give(self._centre)

    @handles(concurrent=1024)
    async def meet(self, request: Synchronize) -> Synchronized:
        learner = self._hear(request)
        self._check(request.parameters)
        self._bytes_in += request.parameters.nbytes
        self._turn_away(learner, "the learner has come anew")
        waiting = self._waiting[learner] = WaitingLearner(request, self.event())
        self._rule.came(learner)
        self._changed.set()
        await waiting.answered.wait()
        if waiting.answer is None:
            raise Refused(waiting.refusal)
        return waiting.answer

    def _hear(self, request: JoinAveraging | Synchronize) -> int:
        """The learner's number. Raises Refused."""
        if self._stopping:
            raise Refused(STOPPING)
        if request.learner not in self._names:
            raise Refused(f"{request.learner} is none of the learners: {', '.join(self._names)}")
        learner = self._names.index(request.learner)
        self._incarnations.hear(learner, request.life)
        return learner

    def _check(self, parameters: NDArray[Any]) -> None:
        mine = self._centre
        if parameters.shape != mine.shape or parameters.dtype != mine.dtype:
            raise Refused(
                f"parameters {list(parameters.shape)} in {parameters.dtype}; "
                f"the centre is {list(mine.shape)} in {mine.dtype}"
            )
        if not np.isfinite(parameters).all():
            raise Refused("there are NaN or infinite numbers among the parameters")

    def _give(self, parameters: NDArray[Any]) -> Synchronized:
        self._bytes_out += parameters.nbytes
        return Synchronized(self.version, parameters)

    # Who lives.

    def _bury(self, learner: int) -> None:
        self._incarnations.end(learner)
        self._leave(learner)

    def _leave(self, learner: int) -> None:
        """It learns nothing at present, and what its earlier life asked for is nobody's."""
        self._rule.left(learner)
        self._turn_away(learner, DIED)
        self._changed.set()

    def _turn_away(self, learner: int, reason: str) -> None:
        waiting = self._waiting.pop(learner, None)
        if waiting is not None:
            waiting.refusal = reason
            waiting.answered.set()

    def on_drain(self) -> None:
        self._stopping = True
        for learner in list(self._waiting):
            self._rule.left(learner)
            self._turn_away(learner, STOPPING)

    # Meetings, one after the other.

    async def run(self) -> None:
        for number, learner in enumerate(self.learners):
            self.start_soon(attend, self, learner, partial(self._bury, number))
        await self._publish()
        while True:
            while present := self._rule.next():
                await self._hold(present)
            await self._changed.wait()
            self._changed = self.event()

    async def _hold(self, present: tuple[int, ...]) -> None:
        """A meeting of these. Cancelled, they wait on."""
        guests = [self._waiting[learner] for learner in present]
        vectors = [host_session.meet.parameters for host_session in guests]
        meeting = await self._computing(self._rule.meet, self._centre, vectors)
        made = sum(host_session.meet.updates for host_session in guests)
        self._centre, self._updates = meeting.centre, self._updates + made
        for learner, host_session, answer in zip(present, guests, meeting.answers, strict=True):
            if self._waiting.get(learner) is host_session:  # else it has died meanwhile
                del self._waiting[learner]
            host_session.answer = self._give(answer)
            host_session.answered.set()
        self._account(len(guests), made, meeting.distances)
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
        await self.weights.publish(Weights(self.version, self._centre))

    def state(self) -> State:
        return {
            "parameters": self._centre,
            "updates": self._updates,
            "learning": [self._names[learner] for learner in self._rule.learning],
        }

    def load_state(self, state: State) -> None:
        self._centre, self._updates = np.array(state["parameters"]), state["updates"]
        for name in state["learning"]:
            if name in self._names:
                self._rule.learns(self._names.index(name))
