"""Gradient learner: one of several that draw from one replay and push to one parameter server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, cast

from msgspec import Meta

from actorq.actors import ActorSpec, Group, Ref, SettingProblem, State
from actorq.actors.runtime.wiring import senders
from actorq.envs.task import batch_rows, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.compiling import Compile
from actorq.learning.device import Device
from actorq.learning.distributed.batch_sizing import most_rows
from actorq.roles.common.adaptive_executor import TorchThreads
from actorq.roles.parameter_server.client import (
    GradientCodec,
    OutlierDeviations,
    ParameterServerClient,
    ReadEveryGradients,
    TopKShare,
    coordinator_problems,
)
from actorq.roles.parameter_server.messages import Fetch, Gradient, Pull, Push
from actorq.roles.replay.messages import Version

from .base import ComputedUpdate, ReplayLearner

if TYPE_CHECKING:
    from actorq.learning.networks.flat import FlatParameters
    from actorq.roles.replay.client import ReplayDataset


class GradientLearner(ReplayLearner):
    """Computes gradients on batches of a common replay, for a parameter server.

    A learner of Gorila's (Nair et al. 2015) before the replay of Ape-X (Horgan et al. 2018). Its parameters
    are the server's: it pushes each gradient and continues with the version that the reply names; see
    `ParameterServerClient`. The batch's new priorities are sent before that. How the gradients of several
    learners are combined is the coordinator's `rule`: one update of a gradient of each, or one of each
    gradient. When a learner dies, the others continue without it.
    """

    adapts_scale = False
    joins_priorities = False
    renamed_keys = {"ports.front": "ports.coordinator"}  # noqa: RUF012

    class Config(ReplayLearner.Config):
        device: Annotated[Device, Meta(description="where to compute: auto, cpu, cuda:0, …")] = "auto"
        compile: Compile = "off"
        torch_threads: TorchThreads = None
        gradient_codec: GradientCodec = "whole"
        top_k_share: TopKShare = 0.01
        read_every_gradients: ReadEveryGradients = 1
        outlier_deviations: OutlierDeviations = None

    servers: Group[Gradient | Fetch]
    coordinator: Ref[Pull | Push]
    _method: ParameterServerClient

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        yield from super().wiring_problems(spec, specs)
        yield from coordinator_problems(spec, specs)
        yield from draw_problems(spec, specs)

    async def on_start(self) -> None:
        await self.load_torch()
        self._method = ParameterServerClient(self, self.servers, self.coordinator)

    @property
    def version(self) -> Version:
        return self._method.version or Version(0, 0)

    @property
    def _staged_for(self) -> FlatParameters:
        return self._method.online

    async def _finish(self, source: ReplayDataset, computed: ComputedUpdate) -> None:
        await self._method.push(computed.loss)
        source.batch_size = self._method.rows  # for future draws: those that are ready were drawn before
        if not self._method.in_trouble:
            self.progress("batches")

    def state(self) -> State:
        return self._method.state()

    def load_state(self, state: State) -> None:
        self._method.load_state(state)


def draw_problems(spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterator[SettingProblem]:
    """Problem if the largest draw exceeds `error_buffer_samples`; if that is not set the bound widens to
    it.
    """
    tasks, shards, (coordinator,) = tasks_in(spec.tables), spec.ports["replay"], spec.ports["coordinator"]
    agent, batches = spec.tables.get("agent"), cast(GradientLearner.Config, spec.config).batches_per_ask
    if not isinstance(agent, Agent) or not 0 < len(tasks) <= agent.batch_size or len(shards) % len(tasks):
        return  # reported by other checks
    rows, why = agent.batch_size, ""
    if getattr(specs[coordinator].config, "deal", "equal") == "speed":
        rows = most_rows(rows, len(tasks), len(senders(coordinator, Push, specs)))
        why = f"{coordinator} may give one learner batches of {rows} rows: "
    block = len(shards) // len(tasks)
    for shard, part in zip(shards[::block], batch_rows(tasks, rows), strict=True):
        keeper = specs[shard].ports.get("limiter", (shard,))[0]  # a task's first shard admits its whole draw
        buffer = getattr(specs[keeper].config, "error_buffer_samples", None)
        samples = part * batches
        if buffer is not None and samples > buffer:
            yield (
                "config.batches_per_ask",
                f"{why}a draw takes up to {part} · {batches} = {samples} samples, more than"
                f" error_buffer_samples = {buffer:g} of {keeper}: make that {samples}, or draw fewer batches",
            )
            return
