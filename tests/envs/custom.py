"""Small environments that a user might have written, named in tasks as `tests.envs.custom:Name`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

Observation = Any


class Counter(gymnasium.Env[Observation, Any]):
    """Counts its steps; observations are (episodes so far, steps in this one). Ends as the options say.

    It writes all its observations into one buffer, as a careless environment does.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, terminates_after: int = 10**9, truncates_after: int = 10**9) -> None:
        self.observation_space = Box(0, 10**6, (2,), np.int64)
        self.action_space = Discrete(3)
        self.terminates_after, self.truncates_after = terminates_after, truncates_after
        self.seen = np.zeros(2, np.int64)
        self.actions: list[int] = []
        self.seeds: list[int | None] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.seen += (1, 0)
        self.seen[1] = 0
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(int(action))
        self.seen[1] += 1
        steps = int(self.seen[1])
        return self.seen, float(steps), steps >= self.terminates_after, steps >= self.truncates_after, {}


class Counters(SyncVectorEnv):
    """A vector environment of counters of different lengths, in the autoreset mode that the options say."""

    def __init__(self, num_envs: int, mode: str = "NextStep", terminates: bool = True) -> None:
        name = "terminates_after" if terminates else "truncates_after"
        makers = [lambda steps=steps: _keeping(Counter(**{name: steps})) for steps in range(2, 2 + num_envs)]
        super().__init__(makers, autoreset_mode=mode)


class _Keeping(gymnasium.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: Any) -> Any:
        return observation.copy()


def _keeping(env: Counter) -> gymnasium.Env[Any, Any]:
    return _Keeping(env)


class Mutating(VectorEnv[Any, Any, Any]):
    """Resets in the same step and gives one buffer again and again; `final_obs` is a dense array."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = Box(0, 10**6, (1,), np.int64)
        self.single_action_space = Discrete(2)
        self.steps = np.zeros((num_envs, 1), np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.steps[:] = 0
        return self.steps, {}

    def step(self, actions: Any) -> tuple[Any, ...]:
        self.steps += 1
        ended = self.steps[:, 0] >= np.arange(2, 2 + self.num_envs)
        infos = {"final_obs": self.steps.copy()} if ended.any() else {}
        self.steps[ended] = 0
        return self.steps, np.ones(self.num_envs), ended, np.zeros(self.num_envs, np.bool_), infos


class MutatingByHand(Mutating):
    """The same, but its caller resets what ended."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.steps[slice(None) if options is None else options["reset_mask"]] = 0
        return self.steps, {}

    def step(self, actions: Any) -> tuple[Any, ...]:
        self.steps += 1
        ended = self.steps[:, 0] >= np.arange(2, 2 + self.num_envs)
        return self.steps, np.ones(self.num_envs), ended, np.zeros(self.num_envs, np.bool_), {}


class Unsaid(Mutating):
    """Doesn't say how it begins the next episode."""

    metadata = {}  # noqa: RUF012


class Misspelt(Mutating):
    metadata = {"autoreset_mode": "whenever"}  # noqa: RUF012


class Shaped(gymnasium.Env[Any, Any]):
    """Any spaces, named by the option `case`; gives whatever its observation space samples."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, case: str) -> None:
        self.observation_space, self.action_space = SPACES[case]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 5.0, False, False, {}


_BOX = Box(-1.0, 1.0, (3,), np.float32)
SPACES: dict[str, tuple[Space[Any], Space[Any]]] = {
    "plain": (_BOX, Discrete(2)),
    "float64": (Box(-1.0, 1.0, (3,), np.float64), Discrete(2)),
    "image": (Box(0, 255, (6, 5, 3), np.uint8), Discrete(2)),
    "grey": (Box(0, 255, (6, 5), np.uint8), Discrete(2)),
    "bool": (Box(0, 1, (6, 5, 3), np.bool_), Discrete(2)),
    "discrete": (Discrete(4, start=2), Discrete(2)),
    "offset actions": (_BOX, Discrete(3, start=-1)),
    "huge discrete": (Discrete(100_000), Discrete(2)),
    "continuous actions": (_BOX, _BOX),
    "several actions": (_BOX, MultiDiscrete([2, 3])),
    "binary actions": (_BOX, MultiBinary(2)),
    "dict": (Dict({"a": _BOX}), Discrete(2)),
    "text": (Text(5), Discrete(2)),
    "multi discrete": (MultiDiscrete([2, 3]), Discrete(2)),
    "four dimensions": (Box(0, 255, (4, 6, 5, 3), np.uint8), Discrete(2)),
    "no dimension": (Box(0.0, 1.0, (), np.float32), Discrete(2)),
    "empty": (Box(0.0, 1.0, (0,), np.float32), Discrete(2)),
}


def no_environment() -> int:
    return 3


def factory(steps: int) -> Counter:
    return Counter(terminates_after=steps)


def refusing(colour: str) -> Counter:
    raise ValueError(f"colour must be red, not {colour}")


NOT_CALLABLE = 3
