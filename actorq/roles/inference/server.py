"""Inference actor: has the weights and the device, and evaluates observations for the explorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import Feed, Stopping, handles
from actorq.actors.sync import BatchedRequest, DynamicBatcher
from actorq.learning.device import Device
from actorq.learning.networks.numpy_acting import make_policy, needs_torch
from actorq.roles.common.adaptive_executor import AdaptiveExecutor, TorchThreads, set_torch_threads
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.task_assignment import take_part
from actorq.roles.replay.messages import Weights

from .messages import Act, Acted, check_question


class Inference(LearningActor):
    """Answers explorers' requests in batches, one at a time, with the newest weights it has received.

    After SEED RL's central inference (Espeholt et al. 2020, arXiv 1910.06591). While a batch is computed the
    next one is collected. All Q-values of one reply are of one version of the weights.
    """

    class Config(actors.Config):
        device: Annotated[Device, Meta(description="where the network acts: auto, cpu, cuda:0, …")] = "auto"
        batch_size: Annotated[
            int, Meta(ge=1, description="observations in a batch; only a request of more exceeds it")
        ] = 64
        deadline_seconds: Annotated[
            float,
            Meta(ge=0, description="seconds that the oldest request waits for others to fill its batch"),
        ] = 0.002
        torch_threads: TorchThreads = None

    weights: Feed[Weights]

    async def on_start(self) -> None:
        agent, config = self.agent, self.config
        device, with_torch = config.device, needs_torch(agent, config.device)
        if with_torch:
            await self.load_torch()
            from actorq.learning.device import resolve_device

            device = str(resolve_device(device, self.name))
        self._spaces = self.describe_tasks()
        self._policies = [
            make_policy(agent, its.observation_shape, its.dtype, its.actions, device) for its in self._spaces
        ]
        self._take_part = take_part(agent, self._spaces)
        if with_torch:
            set_torch_threads(config.torch_threads, max(policy.size for policy in self._policies))
        self._computing = AdaptiveExecutor(self)
        self._batcher = DynamicBatcher[Act, Acted](self, config.batch_size, config.deadline_seconds)
        self._newest: Weights | None = None
        self._loaded: Weights | None = None
        self._have_weights = self.event()

    @handles
    async def follow(self, weights: Weights) -> None:
        self._newest = weights
        self._have_weights.set()

    @handles(concurrent=4096)
    async def act(self, request: Act) -> Acted:
        check_question(request, self._spaces)
        return await self._batcher.submit(request, len(request.observations))

    async def run(self) -> None:
        await self._have_weights.wait()
        while True:
            batch = await self._batcher.take()
            newest = self._newest
            assert newest is not None
            with anyio.CancelScope(
                shield=True
            ):  # a batch that was taken is answered, also when the run stops
                answers = await self._computing(self._answer, newest, batch)
            for entry, q_values in answers:
                entry.reply.set(Acted(q_values, newest.version))
            self._report(batch)
            await self.sleep(0)  # other tasks wait for the loop

    def _answer(
        self, newest: Weights, batch: Sequence[BatchedRequest[Act, Acted]]
    ) -> list[tuple[BatchedRequest[Act, Acted], NDArray[Any]]]:
        """Q-values for each request, evaluated together for each task. May run in a thread: nothing else uses
        the networks meanwhile."""
        if newest is not self._loaded:
            for task, policy in enumerate(self._policies):
                policy.load(self._take_part(newest.parameters, task))
            self._loaded = newest
        answers = []
        for task, policy in enumerate(self._policies):
            mine = [entry for entry in batch if entry.request.task == task]
            if mine:
                asked = [entry.request.observations for entry in mine]
                q_values = policy.q_values(np.concatenate(asked) if len(asked) > 1 else asked[0])
                ends = np.cumsum([len(observations) for observations in asked])
                parts = np.split(q_values, ends[:-1])
                answers += [(entry, part.copy()) for entry, part in zip(mine, parts, strict=True)]
        return answers

    def _report(self, batch: Sequence[BatchedRequest[Act, Acted]]) -> None:
        now, observations = self.now(), sum(entry.size for entry in batch)
        self.progress("inferences", observations)
        self.observe("inference_batch", observations)
        self.observe("inference_seconds", np.array([now - entry.arrived for entry in batch]))
        self.report("inference_held_share", self._batcher.held_share)

    def on_drain(self) -> None:
        self._batcher.close(Stopping())
