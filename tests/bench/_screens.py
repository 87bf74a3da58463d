"""Environments that cost next to nothing: random images, in a module that all nodes import."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv

from actorq.actors import Actor, handles
from actorq.roles.replay.messages import Insert, Inserted

PICTURES = 256


class Screens(VectorEnv[Any, Any, Any]):
    """Pictures of 84 x 84 out of a few; no episode ever ends."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = Box(0, 255, (84, 84), np.uint8)
        self.single_action_space = Discrete(6)
        self.action_space = MultiDiscrete(np.full(num_envs, 6))
        self._pictures = np.random.default_rng(0).integers(0, 255, (PICTURES, 84, 84), np.uint8)
        self._shown = np.arange(num_envs)
        self._none = np.zeros(num_envs, np.bool_)
        self._rewards = np.zeros(num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._pictures[self._shown % PICTURES], {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._shown += 1 + actions
        return self._pictures[self._shown % PICTURES], self._rewards, self._none, self._none, {}


class Sink(Actor):
    """Takes every chunk."""

    @handles(concurrent=64)
    async def insert(self, request: Insert) -> Inserted:
        return Inserted(0, len(request.chunk))
