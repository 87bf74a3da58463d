"""What a stage does with micro-batches, from one restoring to the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from msgspec.structs import replace
from numpy.typing import NDArray

from actorq.actors import Actor, ActorDied, Group, Refused
from actorq.learning.distributed.sharding import shard_slices
from actorq.learning.pipeline.activations import (
    Activations,
    Tensors,
    add_up,
    join_columns,
    join_outputs,
    split_columns,
)
from actorq.learning.pipeline.partition import StagePart
from actorq.roles.common.adaptive_executor import AdaptiveExecutor
from actorq.roles.common.priority_executor import PriorityExecutor
from actorq.roles.common.semaphore import ClosableSemaphore
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
    ReturnColumns,
    Returned,
)

if TYPE_CHECKING:
    from actorq.learning.algorithms.dqn import QLoss
    from actorq.learning.pipeline.stage_module import StageModule

LONG_SECONDS = 0.001
"""From here on a stage computes in a thread: its peers wait for what its loop has to send."""

V = TypeVar("V")


class Utilization:
    """Counts the time in which anything is inside its `with`, once, however many are."""

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
        """Seconds since it was last asked, when nothing is inside."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class PipelineSchedule:
    """Takes micro-batches through a segment: one forward, one backward, and all of a batch before the next
    (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503).

    Stage i of k has at most k - i micro-batches in flight, and, but for the last one, one more that is on its
    way to the next stage or back: so transfers hide behind computing. It computes backward rather than
    forward. Where a layer is split by columns, the first of its stages leads: it hands inputs and gradients
    to the others.
    """

    def __init__(
        self,
        actor: Actor,
        segment: StageModule,
        q_loss: QLoss,
        parts: Sequence[StagePart],
        stage: int,
        stages: Group[Flow | ComputeColumns | ReturnColumns | Evaluate],
        incarnation: int,
    ) -> None:
        self.segment, self.incarnation = segment, incarnation
        self.bytes_sent = 0
        """Activations and gradients since then."""
        self.most_in_flight_bytes = 0
        self._actor, self._q_loss = actor, q_loss
        part = parts[stage]
        self._columns = part.columns
        self._helpers = stages[stage + 1 : stage + part.columns]
        following = stage + part.columns
        self._next = stages[following] if following < len(parts) else None
        before_last = parts[-1].position - part.position
        self._in_flight = ClosableSemaphore(before_last + 2 if before_last else 1, actor.event)
        self._computer, self._busy = PriorityExecutor(actor), Utilization(actor.now)
        self._forwards, self._backwards, self._judgements, self._steps, self._evaluations, self._writings = (
            AdaptiveExecutor(actor, LONG_SECONDS) for _ in range(6)
        )
        self._updates = segment.updates
        self._returned = 0
        self._stepped = actor.event()
        self._over: Refused | None = None

    def take_busy_seconds(self) -> float:
        """Spent on micro-batches since the last update."""
        return self._busy.take()

    def close(self, reason: str) -> None:
        """Whatever waits here, and comes here from now on, is refused. Computations end by themselves, and a
        step that is due is made."""
        self._over = Refused(reason)
        self._in_flight.close(self._over)
        self._stepped.set()

    # Micro-batches.

    async def flow(self, flow: Flow) -> Returned:
        """Forward, what comes after this stage, and backward. Raises Refused once the work is over."""
        await self._reached(flow.version)
        rows = tuple(len(outcome.actions) for outcome in flow.outcomes)
        async with self._in_flight.turn():
            outputs = await self._forward(flow, rows)
            returned = await self._follow(flow, outputs)
            own = await self._backward(flow, returned.gradients)
            self.bytes_sent += _bytes(own.gradients)
            square_norm = returned.square_norm + own.square_norm
            return Returned(own.gradients, returned.td_errors, returned.loss, square_norm)

    async def _follow(self, flow: Flow, outputs: Activations) -> Returned:
        if self._next is None:
            from actorq.learning.pipeline.stage_module import judge

            like = self.segment.online.vector
            with self._busy:
                judged = await self._computer(
                    self._judgements, judge, self._q_loss, outputs, flow.outcomes, flow.size, like
                )
            return Returned(judged.gradients, judged.td_errors, judged.loss, square_norm=0.0)
        self.bytes_sent += outputs.nbytes
        onward = replace(flow, inputs=outputs)
        return await _answer(partial(self._next.ask, onward))

    async def _forward(self, flow: Flow, rows: tuple[int, ...]) -> Activations:
        request = ComputeColumns(flow.version, flow.number, flow.inputs, rows)
        self.bytes_sent += flow.inputs.nbytes * len(self._helpers)
        helped = [_Pending[Columns](self._actor, partial(helper.ask, request)) for helper in self._helpers]
        own = await self._own_forward(flow.number, flow.inputs, rows)
        return join_columns([own, *[(await help.result()).outputs for help in helped]])

    async def _backward(self, flow: Flow, gradients: Tensors) -> Partial:
        if self._columns == 1:
            return await self._own_backward(flow.number, gradients, flow.count)
        own, *others = split_columns(gradients, shard_slices(gradients[0].shape[1], self._columns))
        self.bytes_sent += sum(map(_bytes, others))
        helped = [
            _Pending[Partial](
                self._actor, partial(helper.ask, ReturnColumns(flow.version, flow.number, flow.count, theirs))
            )
            for helper, theirs in zip(self._helpers, others, strict=True)
        ]
        mine = await self._own_backward(flow.number, own, flow.count)
        all = [mine, *[await help.result() for help in helped]]
        gradients = add_up([each.gradients for each in all])
        return Partial(gradients, sum(each.square_norm for each in all))

    async def compute_columns(self, request: ComputeColumns) -> Columns:
        """A helper's way forward."""
        await self._reached(request.version)
        outputs = await self._own_forward(request.number, request.inputs, request.rows)
        self.bytes_sent += outputs.nbytes
        return Columns(outputs)

    async def return_columns(self, request: ReturnColumns) -> Partial:
        """A helper's way back."""
        own = await self._own_backward(request.number, request.gradients, request.count)
        self.bytes_sent += _bytes(own.gradients)
        return own

    async def _own_forward(self, number: int, inputs: Activations, rows: tuple[int, ...]) -> Activations:
        # What ends a micro-batch goes first: it frees memory, and others wait for it.
        with self._busy:
            return await self._computer(self._forwards, self._compute_forward, number, inputs, rows, rank=1)

    def _compute_forward(self, number: int, inputs: Activations, rows: tuple[int, ...]) -> Activations:
        outputs = self.segment.forward(number, inputs, rows)
        self.most_in_flight_bytes = max(self.most_in_flight_bytes, self.segment.in_flight_bytes)
        return outputs

    async def _own_backward(self, number: int, gradients: Tensors, count: int) -> Partial:
        with self._busy:
            return await self._computer(self._backwards, self._compute_backward, number, gradients, count)

    def _compute_backward(self, number: int, gradients: Tensors, count: int) -> Partial:
        found = self.segment.backward(number, gradients)
        self._returned += 1
        return Partial(found, self.segment.square_norm() if self._returned == count else 0.0)

    # Acting.

    async def evaluate(self, request: Evaluate) -> Evaluated:
        """Forward, and what comes after this stage. Raises Refused as `flow` does."""
        await self._reached(request.version)
        ask = Evaluate(request.version, request.inputs, request.rows, columns_only=True)
        helpers = () if request.columns_only else self._helpers
        helped = [_Pending[Evaluated](self._actor, partial(helper.ask, ask)) for helper in helpers]
        own = await self._computer(self._evaluations, self._compute_evaluation, request)
        outputs = join_outputs([own, *[(await help.result()).outputs for help in helped]])
        if self._next is None or request.columns_only:
            return Evaluated(outputs)
        return await _answer(partial(self._next.ask, Evaluate(request.version, outputs, request.rows)))

    def _compute_evaluation(self, request: Evaluate) -> Tensors:
        if self._over is not None:
            raise Refused(self._over.reason)
        if request.version.updates != self.segment.updates:  # an update has been made since it came
            raise Refused(PASSED)
        return self.segment.evaluate(request.inputs, request.rows)

    # Updates.

    async def _reached(self, version: Version) -> None:
        """Wait until the update before has been made."""
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
        await self._computer(self._steps, self.segment.step, factor)
        self._updates = self.segment.updates  # not before all of the update is made, perhaps in a thread
        self.bytes_sent = self.most_in_flight_bytes = 0
        self._returned = 0
        self._stepped.set()
        if self._over is None:
            self._stepped = self._actor.event()

    async def write(self, parameters: NDArray[Any], *, anew: bool) -> None:
        """Go on with other parameters; `anew`: the target network too."""
        await self._computer(self._writings, self._write, parameters, anew)

    def _write(self, parameters: NDArray[Any], anew: bool) -> None:
        self.segment.online.write(parameters)
        if anew:
            self.segment.target.copy()


class _Pending(Generic[V]):
    """Something asked for while the asker goes on."""

    def __init__(self, actor: Actor, ask: Callable[[], Awaitable[V]]) -> None:
        self._done = actor.event()
        self._result: V | None = None
        self._error: Refused | None = None
        actor.start_soon(self._wait, ask)

    async def _wait(self, ask: Callable[[], Awaitable[V]]) -> None:
        try:
            self._result = await _answer(ask)
        except Refused as refusal:
            self._error = refusal
        self._done.set()

    async def result(self) -> V:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return cast(V, self._result)


async def _answer(ask: Callable[[], Awaitable[V]]) -> V:
    """Another stage's answer; its death is no reason to die as well."""
    try:
        return await ask()
    except ActorDied:
        raise Refused(RESTORING) from None


def _bytes(tensors: Tensors) -> int:
    return sum(array.nbytes for array in tensors)
