"""A stage of a model-parallel pipeline: holds a part of the Q-network, which no actor holds as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, convert, to_builtins

import actorq.actors as actors
from actorq.actors import Group, Refused, State, handles
from actorq.envs.task import tasks_in
from actorq.learning.device import Device
from actorq.learning.pipeline.partition import StagePart, layer_shapes, part_size
from actorq.roles.common.adaptive_executor import TorchThreads, set_torch_threads
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.problems import device_problems
from actorq.roles.common.recovery import BEGINNING
from actorq.roles.replay.messages import Version
from actorq.roles.replay.rate_limit_gate import STOPPING

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
    Resumed,
    ReturnColumns,
    Returned,
    Slice,
    StepStage,
    WriteParameters,
    Written,
)
from .schedule import PipelineSchedule

if TYPE_CHECKING:
    from actorq.learning.pipeline.stage_module import StageModule


class Stage(LearningActor):
    """One of `count` stages that hold a Q-network between them: each some layers, or some columns of one.

    It has its slice of the online and of the target network, of the gradient and of the optimizer's moments,
    makes it itself from the seed, and never sees the others'. Batches, updates and what to hold come from a
    `pipeline_learner`.
    """

    class Config(actors.Config):
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        torch_threads: TorchThreads = None
        restore_within_updates: Annotated[
            int, Meta(ge=2, description="updates lost at most when a stage dies")
        ] = 1000

    one_state = True
    stages: Group[Flow | ComputeColumns | ReturnColumns | Evaluate]

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_problems(config.device)

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        from actorq.envs.make import describe

        layers = layer_shapes(tables["agent"], [describe(task) for task in tasks_in(tables)])
        part = convert(state["part"], StagePart)
        if part.end > len(layers) or part_size(layers, part) != state["size"]:
            yield (
                "agent",
                "its network is another than the checkpoint's; a run goes on with what it began with",
            )
        saved, mine = state["optimizer"], tables["agent"].optimizer
        if mine != saved:
            yield "agent.optimizer", f"is {mine}, but the run has learned with {saved}"

    async def on_start(self) -> None:
        await self.in_thread(import_module, "actorq.learning.pipeline.stage_module")  # torch takes seconds

        from actorq.envs.make import describe
        from actorq.learning.algorithms.dqn import QLoss
        from actorq.learning.device import resolve_device

        self._spaces = [describe(task) for task in self.all_tasks]
        self._device = resolve_device(self.config.device, self.name)
        self._q_loss = QLoss(self.agent)
        self._incarnation = 0
        self._part: StagePart | None = None
        self._size = 0
        self._points: list[State] = []
        """What there is to go back to, oldest first."""
        self._segment: StageModule | None = None
        self._work: PipelineSchedule | None = None
        """From a `Resume` to the next `HaltStage`."""

    # Micro-batches, and acting.

    @handles(concurrent=1024)
    async def flow(self, request: Flow) -> Returned:
        return await self._work_of(request.version).flow(request)

    @handles(concurrent=1024)
    async def compute_columns(self, request: ComputeColumns) -> Columns:
        return await self._work_of(request.version).compute_columns(request)

    @handles(concurrent=1024)
    async def return_columns(self, request: ReturnColumns) -> Partial:
        return await self._work_of(request.version).return_columns(request)

    @handles(concurrent=4096)
    async def evaluate(self, request: Evaluate) -> Evaluated:
        return await self._work_of(request.version).evaluate(request)

    def _work_of(self, version: Version) -> PipelineSchedule:
        if self._work is None or version.incarnation != self._work.incarnation:
            raise Refused(RESTORING)
        return self._work

    # Updates, in the learner's order.

    @handles
    async def step(self, step: StepStage) -> None:
        if self._work is None or step.version != self._version:
            return
        if step.seconds > 0.0:
            self.report("stage_idle_share", 1.0 - self._work.take_busy_seconds() / step.seconds)
        self.report("stage_bytes_sent", self._work.bytes_sent)
        self.report("stage_in_flight_bytes", self._work.most_in_flight_bytes)
        await self._work.step(step.factor)
        every = self.config.restore_within_updates // 2
        if self._work.segment.updates % every == 0:
            self._make_point(every)

    @handles
    async def read(self, request: Read) -> Slice:
        return Slice(self._at(request.version).segment.online.read())

    @handles
    async def write(self, request: WriteParameters) -> Written:
        await self._at(request.version).write(request.parameters, anew=request.anew)
        return Written()

    def _at(self, version: Version) -> PipelineSchedule:
        """Raises Refused unless the parameters are of just this version."""
        work = self._work_of(version)
        if version != self._version:
            raise Refused(f"{self.name} isn't at version {version.updates}")
        return work

    @property
    def _version(self) -> Version:
        assert self._segment is not None
        return Version(self._incarnation, self._segment.updates)

    # Recovery, by the learner.

    @handles
    async def halt(self, _: HaltStage) -> Halted:
        self._end_work(RESTORING)
        return Halted(self._incarnation, tuple(map(_version_of, self._restorable())), self._part)

    def _end_work(self, reason: str) -> None:
        if self._work is not None:
            self._work.close(reason)
            self._work = None

    @handles
    async def resume(self, request: Resume) -> Resumed:
        from actorq.learning.pipeline.stage_module import StageModule

        part, points = request.parts[request.stage], self._restorable()
        versions = list(map(_version_of, points))
        if request.origin != BEGINNING and (request.origin not in versions or part != self._part):
            raise Refused(f"{self.name} can't go back to version {request.origin.updates}")
        # Before a thread computes anything: it keeps what it finds then.
        size = part_size(layer_shapes(self.agent, self._spaces), part)
        set_torch_threads(self.config.torch_threads, size)
        self._segment = segment = await self.in_thread(
            StageModule, self.agent, self._spaces, request.seed, part, self._device
        )
        self._incarnation, self._part, self._size = request.incarnation, part, size
        if request.origin == BEGINNING:
            self._points = [self._point()]
        else:
            # What came before stays: should another stage die now, it may have no more than that.
            self._points = points[: versions.index(request.origin) + 1]
            segment.load_state(self._points[-1])
        self._work = PipelineSchedule(
            self, segment, self._q_loss, request.parts, request.stage, self.stages, request.incarnation
        )
        self.keep_snapshot()
        return Resumed()

    def _restorable(self) -> list[State]:
        """The points, and the slice as it is now."""
        if self._segment is None or self._points[-1]["updates"] == self._segment.updates:
            return self._points
        return [*self._points, self._point()]

    def _point(self) -> State:
        assert self._segment is not None
        return {**self._segment.state(), "incarnation": self._incarnation}

    def _make_point(self, every: int) -> None:
        """Those of the last `every` updates stay: of stages that save at their own pace, one is common."""
        assert self._segment is not None
        oldest = self._segment.updates - every
        self._points = [point for point in self._points if point["updates"] >= oldest]
        self._points.append(self._point())
        self.keep_snapshot()
        self.progress("stage_updates", every)

    def on_drain(self) -> None:
        if self._work is not None:
            self._work.close(STOPPING)

    def state(self) -> State:
        if self._part is None:
            return {}
        return {
            "incarnation": self._incarnation,
            "part": to_builtins(self._part),
            "size": self._size,
            "optimizer": self.agent.optimizer,
            "points": self._restorable(),
        }

    def load_state(self, state: State) -> None:
        if state:
            self._incarnation, self._size = state["incarnation"], state["size"]
            self._part, self._points = convert(state["part"], StagePart), state["points"]


def _version_of(point: State) -> Version:
    return Version(point["incarnation"], point["updates"])
