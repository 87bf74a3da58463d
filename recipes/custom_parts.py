"""Parts of one's own for a topology: an environment, a Q-network and an actor. See custom.toml.

Nothing here is registered anywhere: the topology names each class as "custom_parts:Class", and finds this
file because it is beside it.
"""

from __future__ import annotations

from typing import Annotated, Any

import gymnasium
import msgspec
import numpy as np
from gymnasium.spaces import Box, Discrete
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

import actorq
from actorq import Actor, Ref, Request, State, handles
from actorq.replay.chunk import Chunk
from actorq.roles.replay.messages import Insert, Inserted

LEFT, STAY, RIGHT = range(3)

Picture = NDArray[np.uint8]


class Catch(gymnasium.Env[Picture, np.int64]):
    """A ball falls aslant through a board; the paddle in the lowest row must be where it lands.

    Observations are pictures uint8 [rows, columns]: 255 where the ball and the paddle are. +1 for a ball that
    is caught, -1 for one that is missed, and that ends the episode.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, rows: int = 8, columns: int = 7) -> None:
        self.rows, self.columns = rows, columns
        self.observation_space = Box(0, 255, (rows, columns), np.uint8)
        self.action_space = Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        super().reset(seed=seed)
        self.row = 0
        self.ball, self.paddle = (int(column) for column in self.np_random.integers(self.columns, size=2))
        self.drift = int(self.np_random.integers(-1, 2))
        return self._picture(), {}

    def step(self, action: np.int64) -> tuple[Picture, float, bool, bool, dict[str, Any]]:
        self.paddle = min(max(self.paddle + int(action) - STAY, 0), self.columns - 1)
        if not 0 <= self.ball + self.drift < self.columns:
            self.drift = -self.drift  # off the wall
        self.ball += self.drift
        self.row += 1
        landed = self.row == self.rows - 1
        reward = (1.0 if self.ball == self.paddle else -1.0) if landed else 0.0
        return self._picture(), reward, landed, False, {}

    def _picture(self) -> Picture:
        picture = np.zeros((self.rows, self.columns), np.uint8)
        picture[self.row, self.ball] = picture[-1, self.paddle] = 255
        return picture


class BoardNetwork(nn.Module):
    """Q-values [B, actions] of stacked pictures [B, stack, rows, columns], which come scaled to 0..1."""

    def __init__(self, observation_shape: tuple[int, ...], actions: int) -> None:
        super().__init__()
        stack, rows, columns = observation_shape
        self.layers = nn.Sequential(
            nn.Conv2d(stack, 8, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * rows * columns, 64),
            nn.ReLU(),
            nn.Linear(64, actions),
        )

    def forward(self, observations: Tensor) -> Tensor:
        q_values: Tensor = self.layers(observations)
        return q_values


class Tally(actorq.Message):
    """How many transitions a mirror has seen, and how many it has added."""

    seen: int
    added: int


class GetTally(Request[Tally]):
    """Asks a mirror for its tally."""


class Mirror(Actor):
    """Stands between explorers and replay: of what they lived through it adds the mirror image.

    Seen in a mirror a game of Catch is a game of Catch, with left and right exchanged. So each chunk is worth
    two, and the second one costs no step of the environment.
    """

    class Config(actorq.Config):
        share: Annotated[float, Meta(ge=0, le=1, description="share of the chunks that are mirrored")] = 1.0

    replay: Ref[Insert]

    async def on_start(self) -> None:
        self.seen = self.added = 0
        self.generator = np.random.default_rng(self.seed)

    @handles(concurrent=64)  # each may wait for the replay's rate limiter without delaying others
    async def insert(self, request: Insert) -> Inserted:
        self.seen += len(request.chunk)
        if self.generator.random() < self.config.share:
            await self.replay.ask(Insert(mirrored(request.chunk), request.version))
            self.added += len(request.chunk)
            self.progress("mirrored", len(request.chunk))
        return await self.replay.ask(request)

    @handles
    async def get_tally(self, request: GetTally) -> Tally:
        return Tally(self.seen, self.added)

    def state(self) -> State:
        return {
            "seen": self.seen,
            "added": self.added,
            "generator": dict(self.generator.bit_generator.state),
        }

    def load_state(self, state: State) -> None:
        self.seen, self.added = state["seen"], state["added"]
        self.generator.bit_generator.state = state["generator"]


def mirrored(chunk: Chunk) -> Chunk:
    """The same transitions with left and right exchanged; `chunk` is its sender's and is not changed."""
    frames = np.ascontiguousarray(chunk.frames[:, :, ::-1])
    return msgspec.structs.replace(chunk, frames=frames, actions=RIGHT - chunk.actions)
