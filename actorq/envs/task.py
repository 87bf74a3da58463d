"""The `[task]` table of a topology file: which environment is to be learned, and how it is seen.

A plain struct without gymnasium, so that a file can be checked, and its JSON Schema printed, before anything
heavy is imported. `actorq.envs.make` turns a `Task` into environments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

# What a user might pass to an environment's constructor but that has a place of its own.
_ELSEWHERE = {
    "max_episode_steps": "set max_episode_steps in [task] itself",
    "num_envs": "set envs in the config of the environment role",
    "render_mode": "the evaluator decides about rendering",
    "autoreset_mode": "actorq chooses the autoreset mode",
    "stack_num": "set frame_stack in [task] itself: replay keeps each frame once and stacks when it samples",
    "reward_clipping": "set reward_clip in [task] itself: reports then still show the unclipped return",
}


class TaskError(ValueError):
    """The task cannot be made, or a DQN cannot take it; `field` is the key of `[task]` to look at."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learned; every actor that meets the environment reads the same table."""

    # An id of gymnasium's registry, or the user's own class or factory as "package.module:Name".
    env: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="gymnasium id such as 'CartPole-v1', or 'package.module:Class' for one of your own",
        ),
    ]
    options: Annotated[
        dict[str, Any],
        msgspec.Meta(description="keyword arguments of the environment's constructor"),
    ] = {}
    # Frames, oldest first. Stacked by actorq, not by a wrapper: replay keeps each frame once.
    frame_stack: Annotated[
        int,
        msgspec.Meta(ge=1, le=64, description="how many latest frames make one observation; 1 for none"),
    ] = 1
    # Reward units. Only what is learned from is clipped; reported returns are not.
    reward_clip: Annotated[
        float | None,
        msgspec.Meta(
            description="rewards are clipped to [-reward_clip, +reward_clip] for learning; absent: not"
        ),
    ] = None
    # Environment steps (an Atari step is four frames).
    max_episode_steps: Annotated[
        Annotated[int, msgspec.Meta(gt=0)] | None,
        msgspec.Meta(
            description="environment steps before an episode is truncated; absent: the environment's own"
        ),
    ] = None
    channels: Annotated[
        Literal["first", "last"],
        msgspec.Meta(
            description="where observations of three dimensions hold their channels; 'last' (gymnasium's "
            "usual height x width x channels) is turned into channels first, which convolutions want"
        ),
    ] = "last"

    def faults(self) -> Iterator[tuple[str, str]]:
        """Settings that contradict each other or are in the wrong place, as (field, sentence)."""
        if not self.env.strip():
            yield "env", "env is blank; name an environment, for example 'CartPole-v1'"
        elif self.env.startswith(":") or self.env.endswith(":"):
            yield "env", f"{self.env!r} is half a name; an environment of your own is 'package.module:Class'"
        # `not >` instead of `<=`, so that NaN is a fault too.
        if self.reward_clip is not None and not self.reward_clip > 0:
            yield (
                "reward_clip",
                f"reward_clip is {self.reward_clip}; it must be above 0 (leave it out for none)",
            )
        for key in self.options:
            if key in _ELSEWHERE:
                yield "options", f"options.{key} does not belong here: {_ELSEWHERE[key]}"
