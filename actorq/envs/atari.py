"""Atari games with the usual preprocessing, by the Arcade Learning Environment's own vector implementation.

Needs `ale-py` (`pip install 'actorq[atari]'`). The preprocessing of DQN (Mnih et al. 2015, Methods) is done
in the emulator's threads: four frames per action, the maximum of the last two, grey, 84 x 84, up to 30 no-op
actions at the start. Stacking and clipping are not: actorq does both (`frame_stack`, `reward_clip`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ale_py import ALEInterface, LoggerMode
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from .task import Task

FRAME_SKIP = 4
FRAMES_PER_EPISODE = 108_000  # 30 minutes of play; beyond it an episode is truncated


class Atari(AtariVectorEnv):
    """E environments of one game; observations are single grey frames uint8 [E, height, width]."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            stack_num=1, reward_clipping=False, autoreset_mode=AutoresetMode.SAME_STEP, **arguments
        )
        height, width = arguments.get("img_height", 84), arguments.get("img_width", 84)
        self.single_observation_space = Box(0, 255, (height, width), np.uint8)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._shown: NDArray[np.uint8] | None = None

    def reset(  # type: ignore[override]  # the base class leaves its observation type open
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        observations, infos = super().reset(seed=seed, options=options)
        self._shown = observations[:, 0]
        return self._shown, infos

    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[Any, ...]:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        self._shown = observations[:, 0]
        if "final_obs" in infos:
            infos["final_obs"] = infos["final_obs"][:, 0]
        return self._shown, rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """The agent's observation, as RGB [height, width, 3]: the emulator's threads keep no colour image."""
        if self._shown is None:
            return ()
        return tuple(np.repeat(frame[:, :, None], 3, axis=2) for frame in self._shown)


def make(spec: EnvSpec, task: Task, count: int) -> Atari:
    """`count` games of a registered Atari environment, with the task's options over the usual ones.

    Options are AtariVectorEnv's (`episodic_life`, `noop_max`, `frameskip`, `repeat_action_probability`,
    `img_height`, `num_threads`, …). With `episodic_life` returns are counted per life.
    """
    ALEInterface.setLoggerMode(LoggerMode.Error)  # no banner on standard error
    keep = ("game", "repeat_action_probability", "full_action_space")
    arguments = {key: spec.kwargs[key] for key in keep if key in spec.kwargs}
    # Sticky actions (Machado et al. 2018) are part of the -v5 ids; the agent has to press fire itself.
    arguments |= {"frameskip": FRAME_SKIP, "use_fire_reset": False}
    arguments |= task.options
    frames = FRAMES_PER_EPISODE
    if task.max_episode_steps is not None:
        frames = task.max_episode_steps * int(arguments["frameskip"])
    arguments.setdefault("max_num_frames_per_episode", frames)
    return Atari(num_envs=count, **arguments)
