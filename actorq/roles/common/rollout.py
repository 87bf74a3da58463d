"""Rollouts: epsilon-greedy environment steps, assembled into chunks of transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

import actorq.actors as actors
from actorq.actors import State
from actorq.envs.task import NamedTask
from actorq.learning.exploration import Epsilon, ape_x_ladder, epsilon_at, epsilon_greedy
from actorq.learning.networks.numpy_acting import make_policy
from actorq.replay.chunk import Chunk

from .learning_actor import LearningActor
from .task_assignment import choose_task, take_part

if TYPE_CHECKING:
    from actorq.envs.environments import Finished

    from .adder import RolloutSteps


class ExplorationConfig(actors.Config):
    """Settings of the roles that explore."""

    task: Annotated[
        str | None, Meta(description="which of [[tasks]], by its name; absent: the members take them in turn")
    ] = None
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


class Rollout:
    """Steps `envs` environments at once, epsilon-greedily, by Q-values that the user of `questions` supplies.

    Every `chunk_steps` steps make one chunk, with n-step returns and first priorities already computed
    (Ape-X, Horgan et al. 2018). Environments can't be saved: after `load_state` new episodes begin with fresh
    seeds. With several tasks it explores one of them: see `choose_task`.
    """

    def __init__(self, actor: LearningActor, config: ExplorationConfig) -> None:
        from actorq.envs.frames import FrameStack
        from actorq.envs.make import make_environments

        from .adder import NStepAdder

        seed = (
            actor.seed + actor.restarts
        )  # an incarnation without a snapshot must not repeat the same episodes
        self._actor, agent, tasks = actor, actor.agent, actor.all_tasks
        self.choice = choose_task(config.task, tasks, actor.index, actor.count, actor.instances)
        task = tasks[self.choice.task]
        self._task_name = task.name if isinstance(task, NamedTask) else None
        self._environments = make_environments(task, config.envs, seed)
        self.spaces = self._environments.spaces
        shape, dtype = self.spaces.frame_shape, self.spaces.dtype
        self._stack = FrameStack(config.envs, shape, dtype, task.frame_stack)
        self._trajectory = NStepAdder(
            config.envs, self.spaces, stack=task.frame_stack, agent=agent, length=config.chunk_steps
        )
        self._rng = np.random.default_rng(seed)
        self._observations: NDArray[Any] | None = None
        self._finished: list[Finished] = []
        self._counted = 0
        ladder = ape_x_ladder(self.choice.count, base=config.ladder_base, alpha=config.ladder_alpha)
        rung = float(ladder[self.choice.index])
        self._epsilon: Epsilon = rung if config.epsilon is None else config.epsilon

    @property
    def env_steps(self) -> int:
        """Number of environment steps, in all environments and incarnations together."""
        return self._environments.env_steps

    def questions(self) -> RolloutSteps:
        """Fill the next chunk; the first one begins episodes. Call `count` when the chunk has reached its
        replay.

        One at a time, and to its end.
        """
        if self._observations is None:
            frames = self._environments.reset()
            self._observations = self._stack.reset(frames)
            self._trajectory.start(frames)
        environments, trajectory = self._environments, self._trajectory
        epsilon = epsilon_at(self._epsilon, environments.env_steps)
        full = False
        while not full:
            q_values = yield self._observations
            actions = epsilon_greedy(q_values, epsilon, self._rng)
            step = environments.step(actions)
            full = trajectory.record(actions, q_values, step)
            self._observations = self._stack.push(step.observations, step.starts if step.boundary else None)
            if step.finished is not None:
                self._finished.append(step.finished)
        return (yield from trajectory.flush())

    def count(self) -> None:
        """Count the environment steps and report the episodes since the last call, in the actor's name."""
        self._actor.progress("env_steps", self.env_steps - self._counted)
        self._counted = self.env_steps
        if self._finished:  # once a chunk, not at every end: bad policies end episodes at every step
            returns = np.concatenate([finished.returns for finished in self._finished])
            lengths = np.concatenate([finished.lengths for finished in self._finished])
            self._finished.clear()
            self._actor.progress("episodes", len(returns))
            self._report("episode_return", float(returns.mean()))
            self._report("episode_length", float(lengths.mean()))

    def _report(self, name: str, value: float) -> None:
        self._actor.report(name, value)
        if self._task_name is not None:
            self._actor.report(f"{name}/{self._task_name}", value)

    def close(self) -> None:
        self._environments.close()

    def state(self) -> State:
        return {"environments": self._environments.state(), "generator": self._rng.bit_generator.state}

    def load_state(self, state: State) -> None:
        """Continue the counts of a `state`. Call it before the first chunk."""
        self._environments.load_state(state["environments"])
        self._rng.bit_generator.state = state["generator"]
        self._counted = self.env_steps


class LocalRollout(Rollout):
    """A rollout that evaluates its observations with a network of its own."""

    def __init__(self, actor: LearningActor, config: ExplorationConfig, device: str) -> None:
        super().__init__(actor, config)
        agent, spaces = actor.agent, self.spaces
        self._take_part = take_part(agent, actor.describe_tasks() if len(actor.all_tasks) > 1 else [spaces])
        self._policy = make_policy(agent, spaces.observation_shape, spaces.dtype, spaces.actions, device)

    @property
    def parameters(self) -> int:
        """Number of parameters of the task's network."""
        return self._policy.size

    def act_with(self, parameters: NDArray[Any]) -> None:
        """Copy the flat vector [size] of all tasks' network; needed once before `explore`."""
        self._policy.load(self._take_part(parameters, self.choice.task))

    def explore(self) -> Chunk:
        """The next chunk, explored by the same weights throughout."""
        from .adder import answered

        return answered(self.questions(), self._policy.q_values)
