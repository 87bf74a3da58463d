"""Explorers with weights of their own, and explorers that ask: the same actors around both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from actorq.actors import ActorSpec, handles
from actorq.envs.make import describe
from actorq.envs.task import NamedTask, Task
from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_task_parameters
from actorq.replay.chunk import Chunk
from actorq.roles.explorer.explorer import Explorer
from actorq.roles.inference.messages import Act, Acted
from actorq.roles.inference.server import Inference
from actorq.roles.replay.messages import Insert, Version, Weights
from actorq.testing import Record
from tests.actors.world import fresh
from tests.roles.actors import Inbox, WeightPublisher, spec

CARTPOLE = Task(env="CartPole-v1", max_episode_steps=9)
MLP = Agent(hidden=(32, 32), n_step=3, batch_size=4)
NOISE = Task(env="tests.roles.inference.asked:Noise", frame_stack=2, max_episode_steps=9)
CNN = Agent(network="nature_cnn", hidden=(32,), n_step=2, batch_size=4)
BOTH = (
    NamedTask(name="poles", env="CartPole-v1", max_episode_steps=9, reward_scale=0.5),
    NamedTask(name="noise", env="tests.roles.inference.asked:Noise", frame_stack=2, max_episode_steps=9),
)
"""Tasks whose observations and actions are different."""
EXPLORES = Explorer.Config(envs=3, chunk_steps=8, epsilon=0.2)


class Noise(gymnasium.Env[Any, Any]):
    """Random pictures, whose first pixel is the last action."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(0, 255, (36, 36), np.uint8)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        return self._picture(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._picture(action), float(action), bool(self.np_random.random() < 0.1), False, {}

    def _picture(self, action: int) -> Any:
        picture = self.np_random.integers(0, 255, (36, 36), np.uint8)
        picture[0, 0] = action
        return picture


class Unreliable(Inference):
    """Crashes over requests of these numbers, counted from 1 over all its lives."""

    numbers: ClassVar[tuple[int, ...]] = ()
    asked: ClassVar[list[int]] = []

    @handles(concurrent=64)
    async def act(self, request: Act) -> Acted:
        self.asked.append(len(request.observations))
        if len(self.asked) in self.numbers:
            raise RuntimeError("lost my glasses")
        return await super().act(request)


Learned = Task | tuple[NamedTask, ...]


def initial(learned: Learned, agent: Agent, updates: int = 0) -> Weights:
    tasks = learned if isinstance(learned, tuple) else (learned,)
    made = make_task_parameters(agent, [describe(task) for task in tasks], seed=7 + updates)
    return Weights(Version(0, updates), made.read())


def topology(
    record: Record[Insert] | None,
    learned: Learned,
    agent: Agent,
    *,
    explorers: int = 1,
    asking: bool = True,
    explorer: type[Explorer] = Explorer,
    inference: type[Inference] = Inference,
    inbox: type[Inbox] = Inbox,
    **settings: Any,
) -> list[ActorSpec]:
    """A replay's and a learner's stand-in, an inference actor with these settings, and explorers.

    With several tasks each has a shard of its own. Without a record `inbox` brings its own.
    """
    inbox = inbox if record is None else fresh(inbox, record=record)
    tables = {"tasks" if isinstance(learned, tuple) else "task": learned, "agent": agent}
    port = {"inference": "inference"} if asking else {"weights": "learner"}
    shards = ("replay",) if isinstance(learned, Task) else tuple(f"replay.{task.name}" for task in learned)
    return [
        *(spec(shard, inbox) for shard in shards),
        spec("learner", WeightPublisher),
        spec("inference", inference, {"weights": "learner"}, Inference.Config(**settings), tables=tables),
        *(
            replace(
                spec(f"explorer.{index}", explorer, port, EXPLORES, tables=tables),
                ports={"replay": shards, **{name: (to,) for name, to in port.items()}},
                index=index,
                count=explorers,
            )
            for index in range(explorers)
        ),
    ]


def assert_alike(ours: Chunk, theirs: Chunk) -> None:
    """The same experience; priorities up to the rounding of a batch of another size."""
    for name in ours.__struct_fields__:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if name == "priorities":
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(mine, other, err_msg=name)
