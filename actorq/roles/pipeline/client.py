"""Client of a pipeline: partitions the network, sends micro-batches through the stages, restores them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import anyio
import numpy as np
from numpy.typing import NDArray

from actorq.actors import ActorDied, Group, Refused, Stopping
from actorq.actors.sync import Semaphore
from actorq.learning.algorithms import Need
from actorq.learning.pipeline.activations import Activations, Outcomes
from actorq.learning.pipeline.partition import StagePart, join_parts, layer_groups, make_parts, split_parts
from actorq.replay.chunk import Batch
from actorq.roles.averaging.client import AveragingClient
from actorq.roles.common.adaptive_executor import refuse_divergence
from actorq.roles.common.backoff import backoff_seconds
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.recovery import newest_common
from actorq.roles.replay.messages import Version

from .messages import (
    PASSED,
    RESTORING,
    Evaluate,
    Flow,
    Halted,
    HaltStage,
    Read,
    Resume,
    StepStage,
    WriteParameters,
)

log = logging.getLogger("actorq.roles")

Cut = Literal["parameters", "time"] | tuple[str, ...]

Stages = Group[Flow | Evaluate | StepStage | Read | WriteParameters | HaltStage | Resume]


class PipelineUpdate(NamedTuple):
    """Result of one update."""

    priorities: NDArray[np.float32]
    """[B] priorities, task after task."""
    loss: float


class PipelineClient:
    """Makes updates, reads, writes and evaluates a network whose parameters are in stages.

    When a stage dies, all return to the newest version that they have in common, under a new incarnation;
    requests in progress are refused there and repeated here.
    """

    def __init__(
        self,
        actor: LearningActor,
        stages: Stages,
        cut: Cut,
        columns: Mapping[str, int],
        micro_batches: int,
        averaging: AveragingClient,
    ) -> None:
        """Sends, reports and draws its seed as part of `actor`."""
        self._actor, self._agent, self._stages, self._averaging = actor, actor.agent, stages, averaging
        self._cut_setting, self._columns, self._micro_batches = cut, columns, micro_batches
        self.spaces = actor.describe_tasks()
        self._algorithm = self._agent.make_algorithm()
        self._layers = layer_groups(self._agent, self.spaces)
        self._parts: tuple[StagePart, ...] = ()
        self._incarnation = self._updates = 0
        self._settled = self._learning = self._stopping = False
        self._restoring = Semaphore(actor, 1)

    @property
    def version(self) -> Version:
        return Version(self._incarnation, self._updates)

    async def begin(self, *, learning: bool) -> None:
        """Restore the stages. With `learning` and an averaging server they are restored once more, from its
        center: the other learners wait for this one from then on.
        """
        if learning:
            self._learning = True
            self._settled = self._settled and not self._averaging.has_server
        else:
            await self._settle()

    def stop(self) -> None:
        """The run is stopping: refuse requests that wait for the stages to be restored."""
        self._stopping = True
        self._restoring.close(Stopping())

    def note_failure(self) -> None:
        """A stage died or refused: restore all of them before the next use."""
        self._settled = False

    # An update.

    async def compute(self, *batches: Batch) -> PipelineUpdate:
        """Make an update with a batch of each task, repeated until no stage dies during it.

        Raises FloatingPointError if learning has diverged.
        """
        while True:
            await self._settle()
            try:
                return await self._update(batches)
            except (ActorDied, Refused):
                self.note_failure()

    async def _update(self, batches: Sequence[Batch]) -> PipelineUpdate:
        """Raises ActorDied or Refused if a stage dies."""
        began = self._actor.now()
        flows = micro_batches(batches, self._micro_batches, self.version, self._algorithm.needs)
        first = Group([self._stages[0]] * len(flows))
        returned = await first.all().ask_each(flows)
        seconds = self._actor.now() - began
        loss = sum(each.loss for each in returned)
        factor = self._clip(loss, math.sqrt(sum(each.square_norm for each in returned)))
        step = StepStage(flows[0].version, factor, seconds)
        with anyio.CancelScope(shield=True):  # all stages, or none
            await self._stages.all().tell(step)
        if step.version != self.version:
            raise Refused(RESTORING)
        self._updates += 1
        self._actor.report("loss", loss)
        return PipelineUpdate(join_priorities(flows, [each.priorities for each in returned]), loss)

    def _clip(self, loss: float, norm: float) -> float:
        """The factor to multiply the gradient by. Raises FloatingPointError if learning has diverged."""
        refuse_divergence(self._updates, loss, norm)
        maximum = self._agent.max_gradient_norm
        if maximum is None:
            return 1.0
        self._actor.report("gradient_norm", norm)
        return 1.0 if norm <= maximum else maximum / norm

    # Whole vectors.

    async def read(self) -> NDArray[Any]:
        """The online parameters of all stages. Raises ActorDied or Refused if a stage dies."""
        slices = await self._stages.all().ask(Read(self.version))
        return join_parts(self._layers, self._parts, [slice.parameters for slice in slices])

    async def write(self, parameters: NDArray[Any], *, with_target: bool) -> None:
        """Raises ActorDied or Refused if a stage dies; some stages may have been written by then."""
        slices = split_parts(self._layers, self._parts, parameters)
        await self._stages.all().ask_each(
            [WriteParameters(self.version, slice, with_target) for slice in slices]
        )

    # Acting.

    async def evaluate(self, task: int, observations: NDArray[Any]) -> tuple[NDArray[np.float32], Version]:
        """Q-values [rows, actions] of a task's observations [rows, …], and their version.

        Repeated until no stage dies during it. Raises Refused when the run stops.
        """
        inputs = [np.zeros((0, *each.observation_shape), each.dtype) for each in self.spaces]
        inputs[task] = observations
        rows = tuple(map(len, inputs))
        while not self._stopping:
            await self._settle()
            version = self.version
            try:
                evaluated = await self._stages[0].ask(Evaluate(version, tuple(inputs), rows))
            except (ActorDied, Refused) as error:
                if isinstance(error, Refused) and error.reason == PASSED:
                    await self._actor.sleep(0)  # an update was made meanwhile: evaluate its parameters
                elif version.incarnation == self._incarnation:
                    self.note_failure()
            else:
                shape = (-1, self.spaces[task].actions, self._algorithm.outputs_per_action)
                outputs = evaluated.outputs[task].reshape(shape)
                return self._algorithm.q_values(outputs), version
        raise Stopping

    # Restoring.

    async def _settle(self) -> None:
        """Restore all stages to the newest version they have in common, unless nothing has failed."""
        failures = 0
        if self._settled:
            return
        async with self._restoring:
            while not self._settled:
                try:
                    await self._restore()
                    self._settled = True
                except (ActorDied, Refused):  # a stage died meanwhile
                    failures += 1
                    await self._actor.sleep(backoff_seconds(failures))

    async def _restore(self) -> None:
        halted = await self._stages.all().ask(HaltStage())
        origin = newest_common([stage.versions for stage in halted])
        known = [version.updates for stage in halted for version in stage.versions]
        if lost := max(self._updates, *known, 0) - origin.updates:
            whose = ", with the parameters of the root's center" if self._averaging.has_server else ""
            log.warning(
                "the pipeline continues from version %d%s: %d updates are lost", origin.updates, whose, lost
            )
            self._actor.progress("updates_lost", lost)
        self._parts = await self._partition(halted)
        # Skipping incarnations whose snapshots were lost together with this actor's.
        incarnation = (
            1 + self._actor.restarts + max(self._incarnation, *(each.incarnation for each in halted))
        )
        seed, count = self._actor.seed, len(self._stages)
        await self._stages.all().ask_each(
            [Resume(incarnation, origin, stage, self._parts, seed) for stage in range(count)]
        )
        self._incarnation, self._updates = incarnation, origin.updates
        joined = await self._averaging.join(learning=self._learning)
        if joined is not None:
            await self.write(joined, with_target=True)

    async def _partition(self, halted: Sequence[Halted]) -> tuple[StagePart, ...]:
        """Each stage's part: the one it has or, if a stage has none, by the settings."""
        parts = tuple(stage.part for stage in halted if stage.part is not None)
        if len(parts) == len(halted):
            return parts
        cut, columns = self._cut_setting, self._columns
        costs: Sequence[float] = [layer.size for layer in self._layers]
        if cut == "time":
            costs = await self._measure_layers()
        begins = None if isinstance(cut, str) else cut
        made = tuple(make_parts(self._layers, len(self._stages), begins, columns, costs))
        names = [self._layers[part.begin].name for part in made if part.column == 0]
        log.info("stages begin with %s", ", ".join(names))
        return made

    async def _measure_layers(self) -> list[float]:
        """Seconds that each layer takes with a micro-batch."""
        await self._actor.load_torch()

        from actorq.learning.pipeline.layer_costs import layer_seconds

        rows = -(-self._agent.batch_size // self._micro_batches)
        return await self._actor.in_thread(layer_seconds, self._agent, self.spaces, rows)


# Micro-batches.


def micro_batches(
    batches: Sequence[Batch], count: int, version: Version, needs: frozenset[Need]
) -> list[Flow]:
    """`count` requests to the first stage, of sizes as equal as possible, each with a part of every task's
    batch.

    `needs`: the algorithm's.
    """
    size, flows = sum(len(batch) for batch in batches), []
    for number in range(count):
        pairs = [(batch, _rows(len(batch), number, count)) for batch in batches]
        now = tuple(batch.observations[rows] for batch, rows in pairs)
        later = tuple(batch.next_observations[rows] for batch, rows in pairs)
        outcomes = tuple(
            Outcomes(batch.actions[rows], batch.returns[rows], batch.discounts[rows], batch.weights[rows])
            for batch, rows in pairs
        )
        inputs = Activations(
            now,
            later if "online_next" in needs else (),
            later if "target_next" in needs else (),
            now if "target_now" in needs else (),
        )
        flows.append(Flow(version, number, count, size, inputs, outcomes))
    return flows


def _rows(size: int, number: int, count: int) -> slice:
    return slice(size * number // count, size * (number + 1) // count)


def join_priorities(flows: Sequence[Flow], found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The batch's priorities, task after task, from those of each micro-batch."""
    shares = [
        np.split(each, np.cumsum([len(outcome.actions) for outcome in flow.outcomes])[:-1])
        for flow, each in zip(flows, found, strict=True)
    ]
    return np.concatenate([share for task in zip(*shares, strict=True) for share in task])
