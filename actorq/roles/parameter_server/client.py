"""Client of a parameter server: computes gradients, pushes them, and reads the parameters."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, convert

from actorq.actors import ActorDied, ActorSpec, Group, Ref, Refused, SettingProblem, State, Stopping
from actorq.actors.runtime.wiring import senders
from actorq.learning.compiling import Compile
from actorq.learning.distributed.encoded import Codec, Encoded
from actorq.roles.common.adaptive_executor import AdaptiveExecutor, set_torch_threads
from actorq.roles.common.backoff import backoff_seconds
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.replay.messages import Version

from .gradients import GradientSlices, OutlierFilter
from .messages import Fetch, Gradient, Pull, Pulled, Push, Ticket
from .weights_reader import WeightsReader

if TYPE_CHECKING:
    from actorq.learning.staging import StagedBatch, TransitionBatch
    from actorq.learning.update import UpdateResult

log = logging.getLogger("actorq.roles")

MOST_REFUSALS = 100
"""Gradients refused in a row before the learner fails."""

# Settings of the roles that push gradients. Each role lists them: a struct has no two bases with fields.
GradientCodec = Annotated[Codec, Meta(description="encoding of gradients")]
TopKShare = Annotated[
    float, Meta(gt=0, le=1, description="top_k: the share of a gradient's entries that is sent")
]
ReadEveryGradients = Annotated[
    int,
    Meta(
        ge=1,
        description="gradients pushed between two reads of the parameters; always 1 with synchronous and "
        "bounded",
    ),
]
OutlierDeviations = Annotated[
    Annotated[float, Meta(ge=2)] | None,
    Meta(
        description="gradients whose loss is more standard deviations above its running mean are not sent; "
        "absent: all are sent"
    ),
]


def coordinator_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[SettingProblem]:
    """Problems of a role that pushes gradients with the coordinator it is wired to."""
    (coordinator,) = spec.ports["coordinator"]
    workers = senders(coordinator, Push, specs)
    if workers[:1] != (spec.name,) or len(workers) != spec.count:
        yield (
            "ports.coordinator",
            f"{coordinator} identifies workers by their index: wire one actor to it,"
            f" not {', '.join(workers)}",
        )
    if getattr(spec.config, "compile", "off") != "reduce-overhead":
        return
    if getattr(specs[coordinator].config, "deal", "equal") == "speed":
        problem = f"a CUDA graph has one batch size, and {coordinator} changes it by speed; use default"
        yield "config.compile", problem


class PushSettings(Struct, frozen=True):
    """Settings for pushing gradients, out of the `Config` of such a role."""

    device: str
    compile: Compile
    torch_threads: int | None
    gradient_codec: Codec
    top_k_share: float
    read_every_gradients: int
    outlier_deviations: float | None


class ParameterServerClient:
    """Computes gradients with a version of the server's parameters and target network, and pushes them.

    A gradient's slices go to the shards and its ticket to the coordinator, whose reply has the gradient's
    delivery state and the next version to read. A rejected gradient is added to the next one by codecs with
    error feedback and dropped by the others; a gradient in flight when an actor of the server dies is lost.
    The coordinator counts the updates.
    """

    def __init__(
        self, actor: LearningActor, servers: Group[Gradient | Fetch], coordinator: Ref[Pull | Push]
    ) -> None:
        """Sends and reports as part of `actor`, whose index is the worker's number at the coordinator.

        Needs torch. Call `read` once before anything else.
        """
        from actorq.learning.device import resolve_device
        from actorq.learning.networks.factory import make_task_parameters
        from actorq.learning.target import TargetNetwork
        from actorq.learning.update import LearningRule

        config = convert(actor.config, PushSettings, from_attributes=True)
        agent, spaces = actor.agent, actor.describe_tasks()
        self.online = make_task_parameters(agent, spaces, 0, resolve_device(config.device, actor.name))
        self.target = TargetNetwork(agent, self.online).parameters
        set_torch_threads(config.torch_threads, self.online.size)
        self._actor, self._config, self._servers, self._coordinator = actor, config, servers, coordinator
        self._rule = LearningRule(agent, self.online, self.target, config.compile)
        self._computing, self._encoding = AdaptiveExecutor(actor), AdaptiveExecutor(actor)
        self._weights = WeightsReader(servers, actor.index, self.online.vector, self.target.vector)
        self._outliers = OutlierFilter(config.outlier_deviations)
        self._slices = GradientSlices(
            self.online.gradient, len(servers), config.gradient_codec, config.top_k_share
        )
        self._rows = self.rows = agent.batch_size
        """Batch size of the next gradient: `agent.batch_size`, unless it is set by speed."""
        self._gradients = 0
        self._refusals = 0
        """Number of refusals in a row."""
        self._reasons: set[str] = set()
        self.in_trouble = actor.restarts > 0
        """True after a restart or a refusal, until a gradient is taken. Meanwhile nothing counts as progress,
        or the restart limit would never be reached."""

    @property
    def version(self) -> Version | None:
        """Version of the parameters; None before the first `read`."""
        return self._weights.version

    async def compute(self, *batches: TransitionBatch | StagedBatch | None) -> UpdateResult | None:
        """Compute the gradient of a batch of each task, to be pushed next; None if its loss is not finite."""
        learned = await self._computing(self._rule, *batches)
        if not math.isfinite(learned.loss):
            self._actor.progress("gradients_refused")  # the coordinator counts those that are sent
            await self._read_again(f"the loss is {learned.loss}")
            return None
        self._rows = len(learned.priorities)
        self._actor.report("loss", learned.loss)
        return learned

    async def push(self, loss: float) -> None:
        """Push the gradient that was computed last, and read the version that the reply names.

        A gradient whose `loss` is an outlier is not sent. Raises RuntimeError after `MOST_REFUSALS` refusals
        in a row. When cancelled, the gradient may still be applied.
        """
        if self._outliers.is_outlier(loss):
            self._actor.progress("gradients_outlying")
            await self._actor.sleep(0)  # other tasks wait for the loop
            return
        await self._push(await self._encoding(self._slices.encode))

    async def _push(self, slices: list[Encoded]) -> None:
        version = self.version
        assert version is not None
        self._gradients += 1
        ticket = Ticket(self._actor.index, self._actor.restarts, self._gradients)
        for server, slice in zip(self._servers, slices, strict=True):
            await server.tell(Gradient(ticket, version, slice))
        sent = sum(slice.nbytes for slice in slices)
        reads = self._gradients % self._config.read_every_gradients == 0
        try:
            push = Push(ticket, version, sent, self._weights.take_bytes(), reads, self._rows)
            pushed = await self._coordinator.ask(push)
        except Refused as refusal:
            await self._wait_if_stopping(refusal)
            self._slices.give_back(slices)
            await self._read_again(refusal.reason)
        except ActorDied:  # it may have been applied: it is not added to the next one
            await self.read(computing=True)
        else:
            self._refusals, self.in_trouble = 0, False
            if pushed.delivery_state in ("late", "stale"):
                self._slices.give_back(slices)
            if pushed.pulled is not None:
                await self._read(pushed.pulled, computing=True)

    async def _read_again(self, reason: str) -> None:
        """Read the newest version after a refusal. Raises RuntimeError after `MOST_REFUSALS` in a row."""
        self._refusals += 1
        self.in_trouble = True
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warning("a gradient of %s was refused: %s", self._actor.name, reason)
        if self._refusals >= MOST_REFUSALS:
            raise RuntimeError(
                f"{self._refusals} gradients were refused one after the other, the last since {reason}; if"
                " learning has diverged, a lower agent.learning_rate, a lower agent.max_gradient_norm or"
                " task.reward_clip may help"
            )
        await self.read(computing=True)

    async def _wait_if_stopping(self, error: Exception) -> None:
        """If the run is stopping, wait to be cancelled."""
        if isinstance(error, Stopping):
            await self._actor.event().wait()

    async def begin(self, *, learning: bool) -> None:
        """Read the newest version; with `learning` a gradient of it will follow."""
        await self.read(computing=learning)

    async def read(self, *, computing: bool) -> None:
        """Read the newest version; waits while the server recovers.

        `computing`: whether a gradient of it will follow, for which the update rule may wait.
        """
        await self._read(None, computing=computing)

    async def _read(self, pulled: Pulled | None, *, computing: bool) -> None:
        """Read a version, or else the newest one."""
        failures = 0
        while True:
            try:
                if pulled is None:
                    pulled = await self._coordinator.ask(
                        Pull(self._actor.index, computing, self._actor.restarts)
                    )
                await self._take_over(pulled)
                return
            except (ActorDied, Refused) as error:
                await self._wait_if_stopping(error)
                log.info("%s pulls the weights again: %s", self._actor.name, error)
                pulled = None
            failures += 1
            await self._actor.sleep(backoff_seconds(failures))

    async def _take_over(self, pulled: Pulled) -> None:
        before = self._weights.version
        await self._weights.fetch(pulled)
        if pulled.rows is not None:
            self.rows = pulled.rows
            self._actor.report("rows", pulled.rows)
        if before is not None and before.incarnation != pulled.version.incarnation:
            self._slices.forget()

    def state(self) -> State:
        return {"outliers": self._outliers.state(), "slices": self._slices.state()}

    def load_state(self, state: State) -> None:
        self._outliers.load_state(state["outliers"])
        self._slices.load_state(state["slices"])
