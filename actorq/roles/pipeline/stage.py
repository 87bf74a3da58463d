"""Stage of a model-parallel pipeline: holds and computes a part of the Q-network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, convert, to_builtins

import actorq.actors as actors
from actorq.actors import Refused, SettingProblem, State, Stopping, handles
from actorq.learning.device import Device
from actorq.learning.pipeline.partition import StagePart, layer_groups, part_size
from actorq.roles.common.adaptive_executor import TorchThreads, set_torch_threads
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import optimizer_problems, spaces_in
from actorq.roles.common.recovery import BEGINNING, RecoveryPoints, point_of
from actorq.roles.replay.messages import Version

from .messages import (
    RESTORING,
    Columns,
    ComputeColumns,
    Evaluate,
    Evaluated,
    Flow,
    Halted,
    HaltStage,
    Partial,
    Read,
    Resume,
    ReturnColumns,
    Returned,
    Slice,
    StepStage,
    WriteParameters,
)
from .schedule import OtherStages, PipelineSchedule

if TYPE_CHECKING:
    from actorq.learning.pipeline.stage_module import StageModule


class Stage(LearningActor):
    """One of `count` stages that hold a Q-network between them: each some layers, or some columns of one.

    A stage has its slice of the online and of the target network, of the gradient and of the optimizer's
    moments, initializes it from the seed, and never has the others'. A `pipeline_learner` sends batches,
    updates and the partition.
    """

    class Config(actors.Config):
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        torch_threads: TorchThreads = None
        restore_within_updates: Annotated[
            int, Meta(ge=2, description="updates lost at most when a stage dies")
        ] = 1000

    one_state = True
    stages: OtherStages

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        layers = layer_groups(tables["agent"], spaces_in(tables))
        part = convert(state["part"], StagePart)
        if part.end > len(layers) or part_size(layers, part) != state["size"]:
            problem = "its network is another than the checkpoint's; a run is resumed with its first network"
            yield "agent", problem
        yield from optimizer_problems(tables, state["optimizer"])

    async def on_start(self) -> None:
        await self.in_thread(import_module, "actorq.learning.pipeline.stage_module")  # torch takes seconds

        from actorq.learning.device import resolve_device

        self._spaces = self.describe_tasks()
        self._device = resolve_device(self.config.device, self.name)
        self._algorithm = self.agent.make_algorithm()
        self._part: StagePart | None = None
        self._size = 0
        self._recovery = RecoveryPoints(self, self.config.restore_within_updates, "stage_updates")
        self._module: StageModule | None = None
        self._schedule: PipelineSchedule | None = None
        """Not None from a `Resume` to the next `HaltStage`."""

    # Micro-batches, and acting.

    @handles(concurrent=1024)
    async def flow(self, request: Flow) -> Returned:
        return await self._schedule_of(request.version).flow(request)

    @handles(concurrent=1024)
    async def compute_columns(self, request: ComputeColumns) -> Columns:
        return await self._schedule_of(request.version).compute_columns(request)

    @handles(concurrent=1024)
    async def return_columns(self, request: ReturnColumns) -> Partial:
        return await self._schedule_of(request.version).return_columns(request)

    @handles(concurrent=4096)
    async def evaluate(self, request: Evaluate) -> Evaluated:
        return await self._schedule_of(request.version).evaluate(request)

    def _schedule_of(self, version: Version) -> PipelineSchedule:
        if self._schedule is None or version.incarnation != self._schedule.incarnation:
            raise Refused(RESTORING)
        return self._schedule

    # Updates.

    @handles
    async def step(self, step: StepStage) -> None:
        if self._schedule is None or step.version != self._version:
            return
        if step.seconds > 0.0:
            self.report("stage_idle_share", 1.0 - self._schedule.take_busy_seconds() / step.seconds)
        self.report("stage_bytes_sent", self._schedule.bytes_sent)
        self.report("stage_in_flight_bytes", self._schedule.most_in_flight_bytes)
        await self._schedule.step(step.factor)
        self._recovery.note_update()

    @handles
    async def read(self, request: Read) -> Slice:
        return Slice(self._at(request.version).module.online.read())

    @handles
    async def write(self, request: WriteParameters) -> None:
        await self._at(request.version).write(request.parameters, with_target=request.with_target)

    def _at(self, version: Version) -> PipelineSchedule:
        """Raises Refused unless the parameters are exactly of this version."""
        schedule = self._schedule_of(version)
        if version != self._version:
            raise Refused(f"{self.name} isn't at version {version.updates}")
        return schedule

    @property
    def _version(self) -> Version:
        assert self._module is not None
        return Version(self._recovery.incarnation, self._module.updates)

    # Recovery.

    @handles
    async def halt(self, _: HaltStage) -> Halted:
        self._close_schedule(Refused(RESTORING))
        return Halted(self._recovery.incarnation, self._recovery.versions, self._part)

    def _close_schedule(self, refusal: Refused) -> None:
        if self._schedule is not None:
            self._schedule.close(refusal)
            self._schedule = None

    @handles
    async def resume(self, request: Resume) -> None:
        from actorq.learning.pipeline.stage_module import StageModule

        part, begins = request.parts[request.stage], request.origin == BEGINNING
        points = [] if begins else self._recovery.up_to(request.origin)
        if not begins and part != self._part:
            raise Refused(f"{self.name} holds another part of the network")
        # Before any thread computes: a thread keeps the number set when it starts.
        size = part_size(layer_groups(self.agent, self._spaces), part)
        set_torch_threads(self.config.torch_threads, size)
        self._module = module = await self.in_thread(
            StageModule, self.agent, self._spaces, request.seed, part, self._device
        )
        self._part, self._size = part, size
        if begins:
            points = [point_of(module, request.incarnation)]
        else:
            module.load_state(points[-1])
        self._schedule = PipelineSchedule(self, module, self._algorithm, request, self.stages)
        self._recovery.restart(module, request.incarnation, points)

    def on_drain(self) -> None:
        if self._schedule is not None:
            self._schedule.close(Stopping())

    def state(self) -> State:
        if self._part is None:
            return {}
        return {
            "part": to_builtins(self._part),
            "size": self._size,
            "optimizer": self.agent.optimizer,
            **self._recovery.state(),
        }

    def load_state(self, state: State) -> None:
        if state:
            self._part, self._size = convert(state["part"], StagePart), state["size"]
            self._recovery.load_state(state)
