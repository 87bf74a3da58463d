"""The explorer: acts in its environments with its own epsilon and sends what it lived through to replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import ActorDied, Feed, Ref, State, Table, handles
from actorq.dqn.acting import make_policy
from actorq.dqn.agent import Agent
from actorq.dqn.device import Device
from actorq.dqn.exploration import Epsilon, ape_x_ladder, epsilon_at, epsilon_greedy
from actorq.envs.task import Task
from actorq.replay.experience import Chunk

from .faults import device_faults, environment_faults
from .generators import generator_state, load_generator
from .messages import Insert, Version, Weights

if TYPE_CHECKING:
    from actorq.envs.environments import Finished


class Environment(actors.Actor):
    """Explores `envs` environments at once, epsilon-greedily with the newest weights it was sent.

    Each stretch of `chunk_steps` steps goes to replay as one chunk, with n-step returns and first priorities
    already computed (Ape-X, Horgan et al. 2018). One chunk is under way at most: when the replay's rate
    limiter holds it back, exploring waits. Environment steps and episodes count once their chunk is in.
    """

    class Config(actors.Config):
        envs: Annotated[int, Meta(ge=1, le=10_000, description="environments stepped together")] = 16
        epsilon: Annotated[
            Epsilon | None,
            Meta(
                description="chance of a random action: a number, or { start, end, env_steps }; "
                "absent: this explorer's rung of the Ape-X ladder"
            ),
        ] = None
        ladder_base: Annotated[float, Meta(ge=0, le=1, description="the ladder's largest epsilon")] = 0.4
        ladder_alpha: Annotated[float, Meta(ge=0, description="how steeply the ladder falls")] = 7.0
        chunk_steps: Annotated[
            int, Meta(ge=2, le=10_000, description="steps of each environment in one chunk")
        ] = 16
        device: Annotated[Device, Meta(description="where the network acts: auto, cpu, cuda:0, …")] = "auto"

    task: Table[Task]
    agent: Table[Agent]
    replay: Ref[Insert]
    weights: Feed[Weights]

    @classmethod
    def faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return environment_faults(tables)

    @classmethod
    def machine_faults(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        return device_faults(config.device)

    async def on_start(self) -> None:
        from actorq.envs.frames import FrameStack
        from actorq.envs.make import make_environments

        from .trajectory import Trajectory

        config, task = self.config, self.task
        seed = self.seed + self.restarts  # a life from no snapshot is not to live through the same again
        self._environments = make_environments(task, config.envs, seed)
        spaces = self._environments.spaces
        shape, dtype = spaces.frame_shape, spaces.dtype
        self._policy = make_policy(self.agent, spaces.observation_shape, dtype, spaces.actions, config.device)
        self._stack = FrameStack(config.envs, shape, dtype, task.frame_stack)
        self._trajectory = Trajectory(
            config.envs,
            shape,
            dtype,
            spaces.actions,
            stack=task.frame_stack,
            n_step=self.agent.n_step,
            gamma=self.agent.gamma,
            length=config.chunk_steps,
        )
        self._rng = np.random.default_rng(seed)
        self._finished: list[Finished] = []
        self._version = Version(0, 0)
        self._have_weights = self.event()
        self._lost_the_last = False
        ladder = ape_x_ladder(self.count, base=config.ladder_base, alpha=config.ladder_alpha)
        self._epsilon: Epsilon = float(ladder[self.index]) if config.epsilon is None else config.epsilon

    @handles
    async def follow(self, weights: Weights) -> None:
        self._policy.load(weights.parameters)
        self._version = weights.version
        self._have_weights.set()

    async def run(self) -> None:
        await self._have_weights.wait()
        frames = self._environments.reset()
        observations = self._stack.reset(frames)
        self._trajectory.start(frames)
        while True:
            observations = await self._explore(observations)

    async def _explore(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Fill one chunk and send it; returns what to act on next."""
        environments, trajectory, policy = self._environments, self._trajectory, self._policy
        before = environments.env_steps
        epsilon = epsilon_at(self._epsilon, before)
        full = False
        while not full:
            q_values = policy.q_values(observations)
            actions = epsilon_greedy(q_values, epsilon, self._rng)
            step = environments.step(actions)
            full = trajectory.record(actions, q_values, step)
            observations = self._stack.push(step.observations, step.starts if step.boundary else None)
            if step.finished is not None:
                self._finished.append(step.finished)
        await self._send(trajectory.flush(self._best_values))
        # Not before: a life whose chunks are refused makes no progress, and so runs into its restart limit.
        self.progress("env_steps", environments.env_steps - before)
        self._report_episodes()
        return observations

    async def _send(self, chunk: Chunk) -> None:
        """Have a chunk inserted. One that the replay crashed over is lost; a second in a row is a crash."""
        try:
            await self.replay.ask(Insert(chunk, self._version))
        except ActorDied:
            if self._lost_the_last:
                raise
            self._lost_the_last = True
        else:
            self._lost_the_last = False

    def _best_values(self, observations: NDArray[Any]) -> NDArray[Any]:
        """max_a Q of the last observations of episodes that were cut off, [M]."""
        best: NDArray[Any] = self._policy.q_values(observations).max(axis=1)
        return best

    def _report_episodes(self) -> None:
        """Once a chunk, not at every end: reports are cheap, but bad policies end episodes at every step."""
        if self._finished:
            returns = np.concatenate([finished.returns for finished in self._finished])
            lengths = np.concatenate([finished.lengths for finished in self._finished])
            self._finished.clear()
            self.progress("episodes", len(returns))
            self.report("episode_return", float(returns.mean()))
            self.report("episode_length", float(lengths.mean()))

    async def on_stop(self) -> None:
        self._environments.close()

    def state(self) -> State:
        return {"environments": self._environments.state(), "generator": generator_state(self._rng)}

    def load_state(self, state: State) -> None:
        self._environments.load_state(state["environments"])
        load_generator(self._rng, state["generator"])
