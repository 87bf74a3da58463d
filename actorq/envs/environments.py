"""One interface over gymnasium's vector environments, whatever their autoreset mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from .spaces import frame_converter, read_spaces
from .task import Task, TaskError

Bools = NDArray[np.bool_]


class Finished(NamedTuple):
    """The episodes that ended in one step."""

    environments: NDArray[np.intp]  # [k] which environments
    returns: NDArray[np.float64]  # [k] undiscounted, neither clipped nor scaled
    lengths: NDArray[np.int64]  # [k] environment steps


class Step(NamedTuple):
    """Result of one step of E environments; its arrays are valid until the next `step` or `reset`."""

    observations: NDArray[Any]  # [E, *frame_shape] the observations to act on next
    next_observations: NDArray[Any]  # [E, *frame_shape] the actions' results: at an episode's end, its last
    rewards: NDArray[np.float32]  # [E] clipped and scaled as set by the task
    terminated: Bools  # [E] the episode ended in a terminal state
    truncated: Bools  # [E] the episode was cut off; the values of next_observations are not 0
    valid: Bools  # [E] False where the environment only reset itself: that is no transition
    starts: Bools  # [E] True where `observations` is the first of a new episode
    boundary: bool  # False: nothing ended, everything is valid, nothing starts
    finished: Finished | None


class Environments:
    """`count` environments stepped together, with one meaning of a step whatever their autoreset mode.

    Gymnasium's vector environments begin the next episode in one of three ways. NEXT_STEP: the step after an
    end ignores its action and returns the reset observation; here `valid` is False then. SAME_STEP: the end's
    own step returns the reset observation already and the true last one in `infos["final_obs"]`; here that is
    in `next_observations`. DISABLED: the caller resets ended environments; done here, within the step.

    Environments cannot be saved in general. `state()` has what can be: the counters, and the number of
    resets, so that a resumed run begins new episodes with fresh seeds.

    Raises `TaskError` for spaces that a DQN doesn't support, and where a vector environment declares no
    autoreset mode.
    """

    def __init__(self, vector: VectorEnv[Any, Any, Any], task: Task, seed: int) -> None:
        self.spaces = read_spaces(vector.single_observation_space, vector.single_action_space, task)
        self.count = vector.num_envs
        self.env_steps = 0  # number of transitions, in all environments together
        self.episodes = 0  # number of finished episodes
        self._vector = vector
        _trust_actions(vector.unwrapped)
        self._task = task
        self._seed = seed
        self._resets = 0
        self._mode = autoreset_mode(vector, task)
        self._convert = frame_converter(vector.single_observation_space, task)
        self._first_action = int(getattr(vector.single_action_space, "start", 0))
        self._clip = task.reward_clip
        # An adaptive scale is applied by the learner, which receives all explorers' rewards.
        self._scale = 1.0 if task.reward_scale == "adaptive" else task.reward_scale
        self._all = _constant(self.count, True)
        self._none = _constant(self.count, False)
        self._clock = 0  # vector steps since the reset
        self._began = np.zeros(self.count, np.int64)  # the clock when each environment's episode began
        self._returns = np.zeros(self.count)
        self._resetting: NDArray[np.intp] | None = (
            None  # NEXT_STEP: environments that only reset themselves in the next step
        )

    def reset(self) -> NDArray[Any]:
        """Begin a new episode in every environment; returns the first frames [E, *frame_shape].

        Each call uses seeds of its own, one per environment, derived from (seed, number of calls). A vector
        implementation with one generator for all its environments uses the first of them.
        """
        seeds = np.random.SeedSequence([self._seed, self._resets]).generate_state(self.count) >> np.uint32(1)
        self._resets += 1
        if isinstance(self._vector, SyncVectorEnv):
            observations, _ = self._vector.reset(seed=seeds.tolist())
        else:
            observations, _ = self._vector.reset(seed=int(seeds[0]))
        self._clock = 0
        self._began[:] = 0
        self._returns[:] = 0
        self._resetting = None
        return self._checked(self._frames(observations))

    def step(self, actions: NDArray[np.integer[Any]]) -> Step:
        """Take `actions` [E], each 0 .. actions - 1; ignored where an environment only resets."""
        if self._first_action:
            actions = actions + self._first_action
        observations, raw_rewards, terminated, truncated, infos = self._vector.step(actions)
        observations = self._frames(observations)
        rewards = np.asarray(raw_rewards, np.float32)
        self._returns += raw_rewards
        self._clock += 1
        if self._clip is not None:
            rewards = np.clip(rewards, -self._clip, self._clip)
        if self._scale != 1.0:
            rewards = rewards * np.float32(self._scale)
        # The common case must stay nearly free: on few bools count_nonzero is far faster than any().
        if self._resetting is None and not (np.count_nonzero(terminated) or np.count_nonzero(truncated)):
            self.env_steps += self.count
            return Step(
                observations, observations, rewards, terminated, truncated, self._all, self._none, False, None
            )
        return self._boundary(observations, rewards, terminated, truncated, infos)

    def _boundary(
        self,
        observations: NDArray[Any],
        rewards: NDArray[np.float32],
        terminated: Bools,
        truncated: Bools,
        infos: dict[str, Any],
    ) -> Step:
        """The part of a step that is needed only if an episode ended or began."""
        terminated, truncated = (
            np.asarray(terminated, np.bool_),
            np.asarray(truncated, np.bool_),
        )  # or 0 and 1
        after, valid, starts, finished = observations, self._all, self._none, None
        reset, self._resetting = self._resetting, None
        self.env_steps += self.count
        if reset is not None:
            self.env_steps -= len(reset)
            self._begin(reset)
            starts = self._none.copy()
            starts[reset] = True
            valid = ~starts
        ended = terminated | truncated
        (rows,) = ended.nonzero()
        if len(rows):
            self.episodes += len(rows)
            finished = Finished(rows, self._returns[rows], self._clock - self._began[rows])
            if self._mode is AutoresetMode.NEXT_STEP:
                self._resetting = rows
            else:
                starts = ended
                observations, after = self._new_episodes(observations, ended, infos)
                self._begin(rows)
        return Step(observations, after, rewards, terminated, truncated, valid, starts, True, finished)

    def _new_episodes(
        self, observations: NDArray[Any], ended: Bools, infos: dict[str, Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The next observations and the actions' results, where ended environments restart at once."""
        if self._mode is AutoresetMode.SAME_STEP:
            if "final_obs" not in infos:
                raise RuntimeError(
                    f'{self._task.env} resets in the same step, but gave no infos["final_obs"] for an end'
                )
            final = infos["final_obs"]  # an array [E, ...], or an object array with one observation per end
            after = observations.copy()
            after[ended] = self._frames(np.stack([final[row] for row in np.flatnonzero(ended)]))
            return observations, after
        after = observations.copy()  # the reset below may write into the environment's own buffer
        fresh, _ = self._vector.reset(options={"reset_mask": ended})
        acting = after.copy()
        acting[ended] = self._frames(fresh)[ended]
        return acting, after

    def _begin(self, rows: NDArray[np.intp]) -> None:
        self._returns[rows] = 0
        self._began[rows] = self._clock

    def _frames(self, observations: Any) -> NDArray[Any]:
        array = np.asarray(observations)
        return array if self._convert is None else self._convert(array)

    def _checked(self, frames: NDArray[Any]) -> NDArray[Any]:
        expected = (self.count, *self.spaces.frame_shape)
        if frames.shape != expected or frames.dtype != self.spaces.dtype:
            raise TaskError(
                "env",
                f"{self._task.env} gave observations of shape {frames.shape[1:]} and dtype {frames.dtype}, "
                f"but its observation_space says {expected[1:]} and {self.spaces.dtype}",
            )
        return frames

    def render(self) -> list[NDArray[np.uint8]]:
        """One RGB picture [height, width, 3] per environment; they must have been made with `render=True`."""
        return [np.asarray(picture) for picture in self._vector.render() or ()]

    def state(self) -> dict[str, int]:
        """The counters; the environments themselves are not included (see the class)."""
        return {"env_steps": self.env_steps, "episodes": self.episodes, "resets": self._resets}

    def load_state(self, state: dict[str, int]) -> None:
        """Restore the counters; call `reset` next."""
        self.env_steps, self.episodes, self._resets = state["env_steps"], state["episodes"], state["resets"]

    def close(self) -> None:
        """Release what the environments hold; they can't be used afterwards."""
        self._vector.close()


class _Trusting(MultiDiscrete):
    """Action space that accepts every action."""

    def contains(self, x: Any) -> bool:
        return True


def _trust_actions(vector: VectorEnv[Any, Any, Any]) -> None:
    """Disable gymnasium's own check of every action, which takes a tenth of a CartPole step's time.

    Here they are columns of a Q-network with as many outputs as there are actions.
    """
    space = getattr(vector, "action_space", None)
    if type(space) is MultiDiscrete:
        vector.action_space = _Trusting(space.nvec, space.dtype, start=space.start)


def autoreset_mode(vector: VectorEnv[Any, Any, Any], task: Task) -> AutoresetMode:
    """The declared autoreset mode of a vector environment. Raises `TaskError` if it is missing or unknown."""
    modes = ", ".join(mode.value for mode in AutoresetMode)
    try:
        return AutoresetMode(vector.metadata["autoreset_mode"])
    except KeyError:
        problem = "doesn't say how it begins the next episode"
    except ValueError:
        problem = f"has the unknown autoreset mode {vector.metadata['autoreset_mode']!r}"
    raise TaskError(
        "env", f'{task.env} {problem}; metadata["autoreset_mode"] must be a gymnasium AutoresetMode ({modes})'
    )


def _constant(count: int, value: bool) -> Bools:
    array = np.full(count, value)
    array.flags.writeable = False
    return array
