"""Pipeline learner: trains a network in stages on its batches; no actor holds the whole network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast

from msgspec import Meta

from actorq.actors import ActorDied, ActorSpec, Refused, SettingProblem, State, handles
from actorq.learning.pipeline.partition import cut_problems, layer_groups
from actorq.roles.common.problems import spaces_in
from actorq.roles.inference.messages import Act, Acted, check_question
from actorq.roles.pipeline.client import Cut, PipelineClient, Stages

from .base import OwningLearner


class PipelineLearner(OwningLearner):
    """A learner whose parameters are in stages, partitioned by its settings.

    Each batch goes to the first stage in micro-batches; the reply comes when all stages have computed it
    forward and backward, and then each makes its part of the update. The result equals that of a `learner`
    with the same batches; see `PipelineClient`.

    It evaluates observations for explorers through the stages. Whole weights are gathered only if an actor
    subscribes to them, such as an evaluator.
    """

    adapts_scale = False

    class Config(OwningLearner.Config):
        cut: Annotated[
            Cut,
            Meta(
                description="where to cut the network: so that stages have as many parameters, or take as"
                " much time (measured at the start), or before the layers that stages begin with, such as"
                ' ["hidden.1", "output"]'
            ),
        ] = "parameters"
        columns: Annotated[
            dict[str, Annotated[int, Meta(ge=2)]],
            Meta(
                description="wide layers, and the number of stages over which the columns of each are split"
            ),
        ] = {}  # noqa: RUF012 - a struct makes each its own
        micro_batches: Annotated[
            int, Meta(ge=1, description="micro-batches of a batch, passed through the stages one by one")
        ] = 4

    stages: Stages
    _method: PipelineClient

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        yield from super().problems(config, tables)
        agent = tables.get("agent")
        if agent is not None and config.micro_batches > agent.batch_size:
            yield "config.micro_batches", f"is more than agent.batch_size = {agent.batch_size}"

    @classmethod
    def real_time(cls, config: Any) -> str:
        return 'it is cut by "time", which is never the same twice' if config.cut == "time" else ""

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        yield from super().wiring_problems(spec, specs)
        stages, config = spec.ports["stages"], cast(PipelineLearner.Config, spec.config)
        if any(specs[stage].ports["stages"] != stages for stage in stages):
            problem = f"{stages[0]} and the others send to each other: wire their port stages alike"
            yield "ports.stages", problem
        for other in specs.values():
            another = other.name != spec.name and issubclass(other.cls, cls)
            if another and not set(stages).isdisjoint(other.ports["stages"]):
                yield "ports.stages", f"{other.name} trains them as well: give each learner its own stages"
                return
        try:
            layers = layer_groups(spec.tables["agent"], spaces_in(spec.tables))
        except ValueError as error:
            yield "agent.network", str(error)
            return
        begins = None if isinstance(config.cut, str) else config.cut
        for setting, problem in cut_problems(layers, len(stages), begins, config.columns):
            yield f"config.{setting}", problem

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        cut = config.cut if isinstance(config.cut, str) else list(config.cut)
        for setting, mine in (("cut", cut), ("columns", config.columns)):
            if state[setting] != mine:
                yield f"config.{setting}", f"is {mine}, but the stages were made with {state[setting]}"

    async def on_start(self) -> None:
        await super().on_start()
        config = self.config
        self._method = PipelineClient(
            self, self.stages, config.cut, config.columns, config.micro_batches, self._averaging
        )

    def on_drain(self) -> None:
        self._method.stop()

    async def _synchronize(self) -> None:
        try:
            await super()._synchronize()
        except (ActorDied, Refused):  # it starts again from the center
            self._method.note_failure()

    async def _publish(self) -> None:
        if not self.weights.subscribers:
            return
        try:
            await super()._publish()
        except (ActorDied, Refused):  # the next weights are published after a recovery
            self._method.note_failure()

    @handles(concurrent=4096)
    async def act(self, request: Act) -> Acted:
        check_question(request, self._method.spaces)
        return Acted(*await self._method.evaluate(request.task, request.observations))

    def state(self) -> State:
        cut = self.config.cut
        return {"cut": cut if isinstance(cut, str) else list(cut), "columns": dict(self.config.columns)}
