"""The pipeline's learner: has stages learn from what it draws; none of them holds the whole network."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal, cast

import anyio
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorDied, ActorSpec, Group, Ref, Refused, State, Topic, handles
from actorq.envs.task import tasks_in
from actorq.learning.pipeline.partition import (
    StagePart,
    cut_problems,
    join_parts,
    layer_shapes,
    make_parts,
    split_parts,
)
from actorq.replay.chunk import Batch
from actorq.roles.averaging.client import AveragingClient, MeetEveryUpdates
from actorq.roles.averaging.messages import JoinAveraging, Synchronize
from actorq.roles.common.adaptive_executor import refuse_divergence
from actorq.roles.common.death_watch import Presence, pause_after
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.semaphore import ClosableSemaphore
from actorq.roles.common.task_wiring import shard_problems
from actorq.roles.inference.messages import Act, Acted, check_question
from actorq.roles.parameter_server.messages import Attend, Left, VersionList
from actorq.roles.parameter_server.recovery import newest_common
from actorq.roles.pipeline.messages import (
    Evaluate,
    Flow,
    Halted,
    HaltStage,
    Read,
    Resume,
    StepStage,
    WriteParameters,
)
from actorq.roles.pipeline.micro_batches import join_errors, micro_batches
from actorq.roles.pipeline.schedule import PASSED, RESTORING
from actorq.roles.replay.dataset import BatchesPerAsk, DatasetDraw, DrawsAhead, ReplayDataset
from actorq.roles.replay.messages import Sample, UpdatePriorities, Version, Weights
from actorq.roles.replay.rate_limit_gate import STOPPING

log = logging.getLogger("actorq.roles")

Cut = Literal["parameters", "time"] | tuple[str, ...]


class PipelineLearner(LearningActor):
    """A learner whose parameters lie in stages, cut as it says.

    Each batch goes to the first stage in micro-batches, and comes back from it when all stages have passed
    it, forward and backward; then each makes its share of the update. It learns what a `learner` would learn
    from the same batches. When a stage dies, all go back to the newest version that they have in common,
    under a new incarnation.

    Explorers ask it what acting is worth, and it asks the stages; whole weights are gathered only for those
    who subscribe to them, such as an evaluator.
    """

    adapts_scale = False

    class Config(actors.Config):
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
            Meta(description="wide layers, and over how many stages to split the columns of each"),
        ] = {}  # noqa: RUF012 - a struct makes each its own
        micro_batches: Annotated[int, Meta(ge=1, description="parts of a batch that flow one by one")] = 4
        batches_per_ask: BatchesPerAsk = 4
        draws_ahead: DrawsAhead = 2
        publish_every_updates: Annotated[int, Meta(ge=1, description="updates between two weights")] = 16
        meet_every_updates: MeetEveryUpdates = 50

    replay: Group[Sample | UpdatePriorities]
    stages: Group[Flow | Evaluate | StepStage | Read | WriteParameters | HaltStage | Resume]
    root: Ref[JoinAveraging | Synchronize] | None
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from super().problems(config, tables)
        agent = tables.get("agent")
        if agent is not None and config.micro_batches > agent.batch_size:
            yield "config.micro_batches", f"is more than agent.batch_size = {agent.batch_size}"

    @classmethod
    def real_time(cls, config: Any) -> str:
        return 'it is cut by "time", which is never the same twice' if config.cut == "time" else ""

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        from actorq.envs.make import describe

        yield from shard_problems(spec, specs)
        stages, config = spec.ports["stages"], cast(PipelineLearner.Config, spec.config)
        if any(specs[stage].ports["stages"] != stages for stage in stages):
            yield (
                "ports.stages",
                f"{stages[0]} and the others send to each other: wire their port stages alike",
            )
        for other in specs.values():
            another = other.name != spec.name and issubclass(other.cls, cls)
            if another and not set(stages).isdisjoint(other.ports["stages"]):
                yield "ports.stages", f"{other.name} has them learn as well: give each learner its own stages"
                return
        try:
            layers = layer_shapes(spec.tables["agent"], list(map(describe, tasks_in(spec.tables))))
        except ValueError as error:
            yield "agent.network", str(error)
            return
        begins = None if isinstance(config.cut, str) else config.cut
        for setting, problem in cut_problems(layers, len(stages), begins, config.columns):
            yield f"config.{setting}", problem

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        cut = config.cut if isinstance(config.cut, str) else list(config.cut)
        for setting, mine in (("cut", cut), ("columns", config.columns)):
            if state[setting] != mine:
                yield f"config.{setting}", f"is {mine}, but the stages were made with {state[setting]}"

    async def on_start(self) -> None:
        from actorq.envs.make import describe

        self._spaces = [describe(task) for task in self.all_tasks]
        self._layers = layer_shapes(self.agent, self._spaces)
        self._parts: tuple[StagePart, ...] = ()
        self._incarnation = self._updates = 0
        self._settled = self._learning = self._stopping = False
        self._restoring = ClosableSemaphore(1, self.event)
        self._averaging = AveragingClient(self, self.root, self.config.meet_every_updates)
        self._presence = Presence(self)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()
        self._stopping = True
        self._restoring.close(Refused(STOPPING))

    @property
    def version(self) -> Version:
        return Version(self._incarnation, self._updates)

    async def run(self) -> None:
        await self._settle()
        await self._publish()
        feed = ReplayDataset(
            self, self.replay, self.all_tasks, self.config, self.agent.batch_size, lambda: self.version
        )
        draw = await feed.next()
        self._learning = True
        self._settled = self._settled and self.root is None  # the others wait for this one from now on
        while True:
            await self._learn(feed, draw)
            self.report("waiting_share", feed.take_waiting_share())
            draw = await feed.next()

    async def _learn(self, feed: ReplayDataset, draw: DatasetDraw) -> None:
        """All updates of a draw; with the last one their new priorities go back."""
        td_errors = {}
        for number, batches in enumerate(draw.updates):
            td_errors[number] = await self._lasting_update(cast(Sequence[Batch], batches))
            if number == len(draw.updates) - 1:
                await feed.update(draw, td_errors)
            self.progress("updates")
            if self._averaging.note_update():
                await self._meet()
            if self._updates % self.config.publish_every_updates == 0:
                await self._publish()

    # An update.

    async def _lasting_update(self, batches: Sequence[Batch]) -> NDArray[np.float32]:
        """An update with these batches, though stages die over it; [B] TD errors."""
        while True:
            await self._settle()
            try:
                return await self._update(batches)
            except (ActorDied, Refused):
                self._settled = False

    async def _update(self, batches: Sequence[Batch]) -> NDArray[np.float32]:
        """Raises ActorDied or Refused if a stage dies, and FloatingPointError if learning has diverged."""
        began = self.now()
        flows = micro_batches(batches, self.config.micro_batches, self.version, double=self.agent.double)
        first = Group([self.stages[0]] * len(flows))
        returned = await first.all().ask_each(flows)
        seconds = self.now() - began
        loss = sum(each.loss for each in returned)
        factor = self._clip(loss, math.sqrt(sum(each.square_norm for each in returned)))
        step = StepStage(flows[0].version, factor, seconds)
        with anyio.CancelScope(shield=True):  # all stages, or none
            await self.stages.all().tell(step)
        if step.version != self.version:
            raise Refused(RESTORING)
        self._updates += 1
        self.report("loss", loss)
        return join_errors(flows, [each.td_errors for each in returned])

    def _clip(self, loss: float, norm: float) -> float:
        """What to multiply the gradient by. Raises FloatingPointError if learning has diverged."""
        refuse_divergence(self._updates, loss, norm)
        maximum = self.agent.max_gradient_norm
        if maximum is None:
            return 1.0
        self.report("gradient_norm", norm)
        return 1.0 if norm <= maximum else maximum / norm

    # Whole vectors, for those who want them.

    async def _publish(self) -> None:
        """After a death the next ones."""
        if not self.weights.subscribers:
            return
        try:
            whole = await self._read()
        except (ActorDied, Refused):
            self._settled = False
            return
        await self.weights.publish(Weights(self.version, whole))

    async def _meet(self) -> None:
        """Meet the other learners at the root. If a stage dies over it, this one begins there anew."""
        try:
            met = await self._averaging.meet(await self._read())
            await self._write(met, anew=self.agent.copies_target(self._updates))
        except (ActorDied, Refused):
            self._settled = False

    async def _read(self) -> NDArray[Any]:
        """Raises ActorDied or Refused if a stage dies."""
        slices = await self.stages.all().ask(Read(self.version))
        return join_parts(self._layers, self._parts, [slice.parameters for slice in slices])

    async def _write(self, whole: NDArray[Any], *, anew: bool) -> None:
        """Raises ActorDied or Refused if a stage dies; some may have it then, and the others not."""
        slices = split_parts(self._layers, self._parts, whole)
        await self.stages.all().ask_each([WriteParameters(self.version, slice, anew) for slice in slices])

    # Acting.

    @handles(concurrent=4096)
    async def act(self, request: Act) -> Acted:
        spaces = self._spaces
        check_question(request, spaces)
        inputs = [np.zeros((0, *task.observation_shape), task.dtype) for task in spaces]
        inputs[request.task] = request.observations
        rows = tuple(map(len, inputs))
        while not self._stopping:
            await self._settle()
            version = self.version
            try:
                evaluated = await self.stages[0].ask(Evaluate(version, tuple(inputs), rows))
            except (ActorDied, Refused) as error:
                if isinstance(error, Refused) and error.reason == PASSED:
                    await self.sleep(0)  # an update was made on the way: with what came of it
                elif version.incarnation == self._incarnation:
                    self._settled = False
            else:
                return Acted(evaluated.outputs[request.task], version)
        raise Refused(STOPPING)

    # Restoring.

    async def _settle(self) -> None:
        """Have all stages go on from the newest version they have in common, unless they already do."""
        failures = 0
        if self._settled:
            return
        async with self._restoring.turn():
            while not self._settled:
                try:
                    await self._restore()
                    self._settled = True
                except (ActorDied, Refused):  # a stage died over what it was asked, or anew
                    failures += 1
                    await self.sleep(pause_after(failures))

    async def _restore(self) -> None:
        halted = await self.stages.all().ask(HaltStage())
        origin = newest_common([VersionList(stage.incarnation, stage.versions) for stage in halted])
        known = [version.updates for stage in halted for version in stage.versions]
        if lost := max(self._updates, *known, 0) - origin.updates:
            whose = ", with the parameters of the root's centre" if self.root is not None else ""
            log.warning(
                "the pipeline goes on from version %d%s: %d updates are lost", origin.updates, whose, lost
            )
            self.progress("updates_lost", lost)
        self._parts = await self._cut(halted)
        # Skipping incarnations whose snapshots were lost together with this actor's.
        incarnation = 1 + self.restarts + max(self._incarnation, *(stage.incarnation for stage in halted))
        await self.stages.all().ask_each(
            [Resume(incarnation, origin, stage, self._parts, self.seed) for stage in range(len(self.stages))]
        )
        self._incarnation, self._updates = incarnation, origin.updates
        joined = await self._averaging.join(learning=self._learning)
        if joined is not None:
            await self._write(joined, anew=True)

    async def _cut(self, halted: Sequence[Halted]) -> tuple[StagePart, ...]:
        """Each stage's part: as they are or, where one has none, as the settings say."""
        parts = tuple(stage.part for stage in halted if stage.part is not None)
        if len(parts) == len(halted):
            return parts
        cut, columns = self.config.cut, self.config.columns
        costs: Sequence[float] = [layer.size for layer in self._layers]
        if cut == "time":
            costs = await self._measure_layers()
        begins = None if isinstance(cut, str) else cut
        made = tuple(make_parts(self._layers, len(self.stages), begins, columns, costs))
        names = [self._layers[part.begin].name for part in made if part.column == 0]
        log.info("stages begin with %s", ", ".join(names))
        return made

    async def _measure_layers(self) -> list[float]:
        await self.in_thread(import_module, "torch")

        from actorq.learning.pipeline.layer_costs import layer_seconds

        rows = -(-self.agent.batch_size // self.config.micro_batches)
        return await self.in_thread(layer_seconds, self.agent, self._spaces, rows)

    def state(self) -> State:
        cut = self.config.cut
        return {"cut": cut if isinstance(cut, str) else list(cut), "columns": dict(self.config.columns)}
