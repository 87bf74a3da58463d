"""The gradient worker: explores, remembers, computes gradients and pushes them to a parameter server."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import Meta

import actorq.actors as actors
from actorq.actors import ActorDied, ActorSpec, Group, Ref, Refused, State, Table, handles
from actorq.dqn.agent import Agent
from actorq.dqn.device import Device
from actorq.dqn.encoded import Codec, Encoded
from actorq.envs.task import Task
from actorq.replay.config import ReplayConfig
from actorq.replay.experience import Batch

from .computing import Computing, TorchThreads, set_torch_threads
from .exploring import Exploration, ExplorationConfig
from .faults import device_faults, environment_faults
from .gate import STOPPING
from .gradient_slices import GradientSlices
from .lives import Presence
from .messages import Version
from .outliers import OutlierFilter
from .server_messages import Attend, Fetch, Gradient, Left, Pull, Pulled, Push, Ticket
from .sizing import replay_memory

log = logging.getLogger("actorq.roles")

MOST_REFUSALS = 100
"""Gradients refused one after the other before the worker gives up."""

BACKOFF_SECONDS = (0.0, 0.01, 0.1, 1.0)
"""Before the weights are pulled again, by how often that failed; the last of them from then on."""


class LocalReplayConfig(ReplayConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's own replay. `samples_per_insert` is kept to exactly; without it a chunk pays for a batch."""

    capacity: Annotated[
        int, Meta(gt=0, le=2**30, description="transitions held at most; the oldest leave first")
    ] = 50_000


class Worker(actors.Actor):
    """Computes the gradient of the DQN loss on batches of its own experience (Gorila, Nair et al. 2015).

    It acts and learns with a version of the server's parameters and target, pushes the gradient, and goes on
    with the version that the answer names. A gradient's slices go to the shards and its ticket to the front,
    which says what became of it. One that wasn't applied is made up for as far as its codec keeps an account;
    one that was under way when an actor of the server died is lost. The front counts the updates.
    """

    class Config(ExplorationConfig):
        device: Annotated[
            Device, Meta(description="where the network acts and learns: auto, cpu, cuda:0, …")
        ] = "auto"
        torch_threads: TorchThreads = None
        replay: Annotated[LocalReplayConfig, Meta(description="the worker's own replay")] = (
            LocalReplayConfig()
        )
        gradient_codec: Annotated[Codec, Meta(description="how gradients travel")] = "whole"
        top_k_share: Annotated[
            float, Meta(gt=0, le=1, description="top_k: the share of a gradient's entries that is sent")
        ] = 0.01
        read_every_gradients: Annotated[
            int,
            Meta(
                ge=1,
                description="gradients pushed for each time the parameters are read; synchronous and bounded"
                " have them read after each",
            ),
        ] = 1
        outlier_deviations: Annotated[
            Annotated[float, Meta(ge=2)] | None,
            Meta(
                description="gradients whose loss lies more standard deviations above its running mean are "
                "not sent; absent: all are sent"
            ),
        ] = None

    task: Table[Task]
    agent: Table[Agent]
    servers: Group[Gradient | Fetch]
    front: Ref[Pull | Push]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        yield from environment_faults(tables)
        replay: LocalReplayConfig = config.replay
        if replay.error_buffer_samples is not None:
            yield (
                "config.replay.error_buffer_samples",
                "a worker keeps to samples_per_insert exactly: leave it out",
            )
        unlimited = msgspec.structs.replace(replay, samples_per_insert=None, error_buffer_samples=None)
        for field, sentence in unlimited.faults():
            yield f"config.replay.{field}", sentence
        chunk = config.envs * config.chunk_steps
        if replay.capacity < chunk:
            yield (
                "config.replay.capacity",
                f"{replay.capacity} is less than one chunk, envs * chunk_steps = {chunk} transitions",
            )

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_faults(config.device)

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        return replay_memory(cast(Worker.Config, spec.config).replay, [spec])

    @classmethod
    def state_faults(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[tuple[str, str]]:
        for field, sentence in config.replay.state_faults(state["replay"]):
            yield f"config.replay.{field}", sentence

    async def on_start(self) -> None:
        await self.in_thread(import_module, "torch")  # takes seconds

        from actorq.dqn.device import resolve_device
        from actorq.dqn.making import make_parameters
        from actorq.dqn.rule import LearningRule
        from actorq.dqn.target import TargetNetwork
        from actorq.envs.make import describe
        from actorq.replay import make_replay

        from .weights_reader import WeightsReader

        config, agent, spaces = self.config, self.agent, describe(self.task)
        shape, dtype, actions = spaces.observation_shape, spaces.dtype, spaces.actions
        self._online = make_parameters(agent, shape, dtype, actions, 0, resolve_device(config.device))
        set_torch_threads(config.torch_threads, self._online.size)
        target = TargetNetwork(agent, self._online).parameters
        self._rule = LearningRule(agent, self._online, target)
        self._computing, self._encoding = Computing(self), Computing(self)
        self._weights = WeightsReader(self.servers, self.index, self._online.vector, target.vector)
        self._exploration = Exploration(self, config, self.task, agent, config.device)
        # In a thread: a prioritized index compiles its tree when it is first made on a machine.
        self._replay = await self.in_thread(partial(make_replay, config.replay, seed=self.seed))
        self._inserted = self._batches = 0
        self._credit = 0.0
        """Gradients that the experience pays for."""
        self._outliers = OutlierFilter(config.outlier_deviations)
        self._slices = GradientSlices(
            self._online.gradient, len(self.servers), config.gradient_codec, config.top_k_share
        )
        self._acts_with: Version | None = None
        self._gradients = 0
        self._refusals = 0
        """One after the other."""
        self._reasons: set[str] = set()
        self._in_trouble = self.restarts > 0
        """Until a gradient is taken: what is explored meanwhile is no progress, or the restart limit would
        never be reached."""
        self._presence = Presence(self)

    @handles(concurrent=8)
    async def attend(self, _: Attend) -> Left:
        return await self._presence.attend()

    def on_drain(self) -> None:
        self._presence.end()

    async def run(self) -> None:
        await self._read(None, computing=False)
        await self._fill()
        await self._read(None, computing=True)
        while True:
            while self._credit < 1.0:
                await self._explore()
            self._credit -= 1.0
            await self._learn(self._draw())

    # Experience.

    async def _fill(self) -> None:
        """Explore until there is enough to learn from."""
        while self._inserted < self.config.replay.min_size:
            await self._explore()

    async def _explore(self) -> None:
        """Put one chunk into the replay."""
        if self._acts_with != self._weights.version:
            self._exploration.act_with(self._online.vector.numpy(force=True))
            self._acts_with = self._weights.version
        chunk = self._exploration.explore()
        self._replay.add(chunk)
        if self._inserted >= self.config.replay.min_size:
            self._credit += self._paid_by(len(chunk))
        self._inserted += len(chunk)
        self.report("replay_size", len(self._replay))
        if not self._in_trouble:
            self._exploration.count()
        await self.sleep(0)  # others wait for the loop

    def _paid_by(self, inserted: int) -> float:
        """Gradients that so many new transitions pay for."""
        samples_per_insert = self.config.replay.samples_per_insert
        if samples_per_insert is None:
            return 1.0
        return inserted * samples_per_insert / self.agent.batch_size

    def _draw(self) -> Batch:
        batch = self._replay.sample(self.agent.batch_size, self.config.replay.beta(self._batches))
        self._batches += 1
        return batch

    # Gradients.

    async def _learn(self, batch: Batch) -> None:
        """One gradient, on its way from a batch to the parameters that came of it."""
        learned = await self._computing(self._rule, batch)
        if not math.isfinite(learned.loss):
            self.progress("gradients_refused")  # not sent; those that were sent, the front counts
            await self._cope(f"the loss is {learned.loss}")
            return
        self.report("loss", learned.loss)
        if self.config.replay.sampling == "prioritized":
            self._replay.update(batch.ids, np.abs(learned.td_errors))
        if self._outliers.is_outlier(learned.loss):
            self.progress("gradients_outlying")
            await self.sleep(0)  # others wait for the loop
            return
        await self._push(await self._encoding(self._slices.encode))

    async def _push(self, slices: list[Encoded]) -> None:
        version = self._weights.version
        assert version is not None
        self._gradients += 1
        ticket = Ticket(self.index, self.restarts, self._gradients)
        for server, slice in zip(self.servers, slices, strict=True):
            await server.tell(Gradient(ticket, version, slice))
        sent = sum(slice.nbytes for slice in slices)
        reads = self._gradients % self.config.read_every_gradients == 0
        try:
            pushed = await self.front.ask(Push(ticket, version, sent, self._weights.take_bytes(), reads))
        except Refused as refusal:
            await self._heed(refusal)
            self._slices.give_back(slices)
            await self._cope(refusal.reason)
        except ActorDied:  # it may have been applied: it isn't given back
            await self._read(None, computing=True)
        else:
            self._refusals, self._in_trouble = 0, False
            if pushed.fate in ("late", "stale"):
                self._slices.give_back(slices)
            if pushed.pulled is not None:
                await self._read(pushed.pulled, computing=True)

    async def _cope(self, reason: str) -> None:
        """A gradient was refused: go on with the newest weights. Raises RuntimeError if that never helps."""
        self._refusals += 1
        self._in_trouble = True
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warning("a gradient of %s was refused: %s", self.name, reason)
        if self._refusals >= MOST_REFUSALS:
            raise RuntimeError(
                f"{self._refusals} gradients were refused one after the other, the last since {reason}; if"
                " learning has diverged, a lower agent.learning_rate, a lower agent.max_gradient_norm or"
                " task.reward_clip may help"
            )
        await self._read(None, computing=True)

    async def _heed(self, error: Exception) -> None:
        """If the run stops, wait for this loop to be ended: there is nothing to be made up for."""
        if isinstance(error, Refused) and error.reason == STOPPING:
            await self.event().wait()

    # Weights.

    async def _read(self, pulled: Pulled | None, *, computing: bool) -> None:
        """Take over a version, or else the newest one, however long the server takes to recover."""
        failures = 0
        while True:
            try:
                if pulled is None:
                    pulled = await self.front.ask(Pull(self.index, computing, self.restarts))
                await self._take_over(pulled)
                return
            except (ActorDied, Refused) as error:
                await self._heed(error)
                log.info("%s pulls the weights again: %s", self.name, error)
                pulled = None
            await self.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1

    async def _take_over(self, pulled: Pulled) -> None:
        before = self._weights.version
        await self._weights.fetch(pulled)
        if before is not None and before.incarnation != pulled.version.incarnation:
            self._slices.forget()

    async def on_stop(self) -> None:
        self._exploration.close()

    def state(self) -> State:
        return {
            "exploration": self._exploration.state(),
            "replay": self._replay.state(),
            "inserted": self._inserted,
            "batches": self._batches,
            "credit": self._credit,
            "outliers": self._outliers.state(),
            "slices": self._slices.state(),
        }

    def load_state(self, state: State) -> None:
        self._exploration.load_state(state["exploration"])
        self._replay.load_state(state["replay"])
        self._inserted, self._batches = state["inserted"], state["batches"]
        self._credit = state["credit"]
        self._outliers.load_state(state["outliers"])
        self._slices.load_state(state["slices"])
