"""The pipeline schedule of a stage: one forward, one backward (1F1B), with a flush after each batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace
from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group, Refused
from actorq.actors.sync import Future, Semaphore
from actorq.learning.distributed.sharding import shard_slices
from actorq.learning.pipeline.activations import (
    Activations,
    Tensors,
    add_up,
    join_columns,
    join_outputs,
    split_columns,
)
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.priority_executor import PriorityExecutor
from actorq.roles.replay.messages import Version

from .messages import (
    PASSED,
    RESTORING,
    Columns,
    ComputeColumns,
    Evaluate,
    Evaluated,
    Flow,
    Partial,
    Resume,
    ReturnColumns,
    Returned,
)

if TYPE_CHECKING:
    from actorq.learning.algorithms import Algorithm
    from actorq.learning.pipeline.stage_module import StageModule

LONG_SECONDS = 0.001
"""Longer computations run in a thread: other stages wait for messages that this stage's loop has to send."""

V = TypeVar("V")

OtherStages = Group[Flow | ComputeColumns | ReturnColumns | Evaluate]
"""The stages of a pipeline, for each other."""


class Utilization:
    """Measures the time in which at least one task is inside its `with` block."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._inside = 0
        self._began = self._seconds = 0.0

    def __enter__(self) -> None:
        if not self._inside:
            self._began = self._now()
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._seconds += self._now() - self._began

    def take(self) -> float:
        """Busy seconds since the last call; called while no task is inside."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class PipelineSchedule:
    """Runs micro-batches through a stage: one forward, one backward, and all of a batch before the next
    (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503).

    Stage i of k has at most k - i micro-batches in flight and, except for the last stage, one more that is in
    transfer to the next stage or back, so that transfers overlap with computing. Backward has priority over
    forward. Where a layer is split by columns, the first of its stages sends inputs and gradients to the
    others.
    """

    def __init__(
        self, actor: Actor, module: StageModule, algorithm: Algorithm, resume: Resume, stages: OtherStages
    ) -> None:
        self.module, self.incarnation = module, resume.incarnation
        self.bytes_sent = 0
        """Bytes of activations and gradients since the last update."""
        self.most_in_flight_bytes = 0
        self._actor, self._algorithm = actor, algorithm
        stage, parts = resume.stage, resume.parts
        part = parts[stage]
        self._columns = part.columns
        self._helpers = stages[stage + 1 : stage + part.columns]
        following = stage + part.columns
        self._next = stages[following] if following < len(parts) else None
        before_last = parts[-1].position - part.position
        self._in_flight = Semaphore(actor, before_last + 2 if before_last else 1)
        self._computer, self._busy = PriorityExecutor(actor), Utilization(actor.now)
        (
            self._forward_executor,
            self._backward_executor,
            self._loss_executor,
            self._step_executor,
            self._evaluation_executor,
            self._write_executor,
        ) = (AdaptiveExecutor(actor, LONG_SECONDS) for _ in range(6))
        self._updates = module.updates
        self._returned = 0
        self._stepped = actor.event()
        self._over: Refused | None = None

    def take_busy_seconds(self) -> float:
        """Seconds spent on micro-batches since the last update."""
        return self._busy.take()

    def close(self, refusal: Refused) -> None:
        """Refuse waiting and later requests. Running computations finish, and a step that is due is made."""
        self._over = refusal
        self._in_flight.close(self._over)
        self._stepped.set()

    # Micro-batches.

    async def flow(self, flow: Flow) -> Returned:
        """Compute forward, in the stages after this one, and backward. Raises Refused once it is closed."""
        await self._reached(flow.version)
        rows = tuple(len(outcome.actions) for outcome in flow.outcomes)
        async with self._in_flight:
            outputs = await self._forward(flow, rows)
            returned = await self._follow(flow, outputs)
            own = await self._backward(flow, returned.gradients)
            self.bytes_sent += _bytes(own.gradients)
            square_norm = returned.square_norm + own.square_norm
            return Returned(own.gradients, returned.priorities, returned.loss, square_norm)

    async def _follow(self, flow: Flow, outputs: Activations) -> Returned:
        if self._next is None:
            from actorq.learning.pipeline.stage_module import head_loss

            like = self.module.online.vector
            with self._busy:
                head = await self._computer(
                    self._loss_executor, head_loss, self._algorithm, outputs, flow.outcomes, flow.size, like
                )
            return Returned(head.gradients, head.priorities, head.loss, square_norm=0.0)
        self.bytes_sent += outputs.nbytes
        onward = replace(flow, inputs=outputs)
        return await _answer(partial(self._next.ask, onward))

    async def _forward(self, flow: Flow, rows: tuple[int, ...]) -> Activations:
        request = ComputeColumns(flow.version, flow.number, flow.inputs, rows)
        self.bytes_sent += flow.inputs.nbytes * len(self._helpers)
        pending = [self._ask_soon(partial(helper.ask, request)) for helper in self._helpers]
        own = await self._own_forward(flow.number, flow.inputs, rows)
        return join_columns([own, *[(await help.wait()).outputs for help in pending]])

    async def _backward(self, flow: Flow, gradients: Tensors) -> Partial:
        if self._columns == 1:
            return await self._own_backward(flow.number, gradients, flow.count)
        own, *others = split_columns(gradients, shard_slices(gradients[0].shape[1], self._columns))
        self.bytes_sent += sum(map(_bytes, others))
        pending = [
            self._ask_soon(partial(helper.ask, ReturnColumns(flow.version, flow.number, flow.count, theirs)))
            for helper, theirs in zip(self._helpers, others, strict=True)
        ]
        mine = await self._own_backward(flow.number, own, flow.count)
        all = [mine, *[await help.wait() for help in pending]]
        gradients = add_up([each.gradients for each in all])
        return Partial(gradients, sum(each.square_norm for each in all))

    async def compute_columns(self, request: ComputeColumns) -> Columns:
        """Compute forward, as one of the stages that share a layer."""
        await self._reached(request.version)
        outputs = await self._own_forward(request.number, request.inputs, request.rows)
        self.bytes_sent += outputs.nbytes
        return Columns(outputs)

    async def return_columns(self, request: ReturnColumns) -> Partial:
        """Compute backward, as one of the stages that share a layer."""
        own = await self._own_backward(request.number, request.gradients, request.count)
        self.bytes_sent += _bytes(own.gradients)
        return own

    async def _own_forward(self, number: int, inputs: Activations, rows: tuple[int, ...]) -> Activations:
        # Backward has priority: it frees memory, and other stages wait for it.
        with self._busy:
            return await self._computer(
                self._forward_executor, self._compute_forward, number, inputs, rows, rank=1
            )

    def _compute_forward(self, number: int, inputs: Activations, rows: tuple[int, ...]) -> Activations:
        outputs = self.module.forward(number, inputs, rows)
        self.most_in_flight_bytes = max(self.most_in_flight_bytes, self.module.in_flight_bytes)
        return outputs

    async def _own_backward(self, number: int, gradients: Tensors, count: int) -> Partial:
        with self._busy:
            return await self._computer(
                self._backward_executor, self._compute_backward, number, gradients, count
            )

    def _compute_backward(self, number: int, gradients: Tensors, count: int) -> Partial:
        found = self.module.backward(number, gradients)
        self._returned += 1
        return Partial(found, self.module.square_norm() if self._returned == count else 0.0)

    # Acting.

    async def evaluate(self, request: Evaluate) -> Evaluated:
        """Compute forward, in this stage and those after it. Raises Refused as `flow` does."""
        await self._reached(request.version)
        ask = Evaluate(request.version, request.inputs, request.rows, columns_only=True)
        helpers = () if request.columns_only else self._helpers
        pending = [self._ask_soon(partial(helper.ask, ask)) for helper in helpers]
        own = await self._computer(self._evaluation_executor, self._compute_evaluation, request)
        outputs = join_outputs([own, *[(await help.wait()).outputs for help in pending]])
        if self._next is None or request.columns_only:
            return Evaluated(outputs)
        return await _answer(partial(self._next.ask, Evaluate(request.version, outputs, request.rows)))

    def _compute_evaluation(self, request: Evaluate) -> Tensors:
        if self._over is not None:
            raise self._over
        if request.version.updates != self.module.updates:  # an update has been made since it arrived
            raise Refused(PASSED)
        return self.module.evaluate(request.inputs, request.rows)

    # Updates.

    async def _reached(self, version: Version) -> None:
        """Wait until the update before this version's has been made."""
        while True:
            if self._over is not None:
                raise self._over
            if version.updates == self._updates:
                return
            if version.updates < self._updates:
                raise Refused(PASSED)
            await self._stepped.wait()

    async def step(self, factor: float) -> None:
        """Make an update."""
        await self._computer(self._step_executor, self.module.step, factor)
        self._updates = self.module.updates  # not before all of the update is made, perhaps in a thread
        self.bytes_sent = self.most_in_flight_bytes = 0
        self._returned = 0
        self._stepped.set()
        if self._over is None:
            self._stepped = self._actor.event()

    async def write(self, parameters: NDArray[Any], *, with_target: bool) -> None:
        """Replace the parameters and, with `with_target`, those of the target network."""
        await self._computer(self._write_executor, self._write, parameters, with_target)

    def _write(self, parameters: NDArray[Any], with_target: bool) -> None:
        self.module.online.write(parameters)
        if with_target:
            self.module.target.copy()

    # Other stages.

    def _ask_soon(self, ask: Callable[[], Awaitable[V]]) -> Future[V]:
        """Start asking another stage; the future has its reply, or Refused if that stage dies."""
        answer = Future[V](self._actor)
        self._actor.start_soon(_answer_into, answer, ask)
        return answer


async def _answer_into(answer: Future[V], ask: Callable[[], Awaitable[V]]) -> None:
    try:
        answer.set(await _answer(ask))
    except Refused as refusal:
        answer.fail(refusal)


async def _answer(ask: Callable[[], Awaitable[V]]) -> V:
    """Another stage's reply; raises Refused if that stage dies."""
    try:
        return await ask()
    except ActorDied:
        raise Refused(RESTORING) from None


def _bytes(tensors: Tensors) -> int:
    return sum(array.nbytes for array in tensors)
