"""The `[task]` table of a topology file: the environment, and how its observations and rewards are processed.

A plain struct without gymnasium, so that a file can be checked, and its JSON Schema printed, before anything
heavy is imported. `actorq.envs.make` makes environments of a `Task`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

# Constructor arguments that users may expect in `options` but that have keys of their own.
_ELSEWHERE = {
    "max_episode_steps": "set max_episode_steps in [task] itself",
    "num_envs": "set envs in the config of the environment role",
    "render_mode": "the evaluator decides about rendering",
    "autoreset_mode": "actorq chooses the autoreset mode",
    "stack_num": "set frame_stack in [task] itself: replay keeps each frame once and stacks when it samples",
    "reward_clipping": "set reward_clip in [task] itself: reports then still show the unclipped return",
}


class TaskError(ValueError):
    """The task can't be made, or a DQN doesn't support it; `field` is the key of `[task]` concerned."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The environment to be learned; every actor that needs it reads the same table."""

    # An id of gymnasium's registry, or the user's own class or factory as "package.module:Name".
    env: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="gymnasium id such as 'CartPole-v1', or 'package.module:Class' for one of your own",
        ),
    ]
    options: Annotated[
        dict[str, Any], msgspec.Meta(description="keyword arguments of the environment's constructor")
    ] = {}
    # Frames, oldest first. Stacked by actorq, not by a wrapper: replay keeps each frame once.
    frame_stack: Annotated[
        int, msgspec.Meta(ge=1, le=64, description="how many latest frames make one observation; 1 for none")
    ] = 1
    # Reward units. Rewards are clipped for learning only; reported returns are not.
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
    reward_scale: Annotated[
        Annotated[float, msgspec.Meta(gt=0)] | Literal["adaptive"],
        msgspec.Meta(
            description="rewards are multiplied by this for learning, after clipping; 'adaptive': the "
            "learner normalizes what it learns towards, as PopArt does"
        ),
    ] = 1.0
    channels: Annotated[
        Literal["first", "last"],
        msgspec.Meta(
            description="where observations of three dimensions hold their channels; 'last' (gymnasium's "
            "usual height x width x channels) is turned into channels first, which convolutions want"
        ),
    ] = "last"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for settings that contradict each other or are misplaced."""
        if not self.env.strip():
            yield "env", "env is blank; name an environment, for example 'CartPole-v1'"
        elif self.env.startswith(":") or self.env.endswith(":"):
            yield "env", f"{self.env!r} is half a name; an environment of your own is 'package.module:Class'"
        # `not >` instead of `<=`, so that NaN is refused too.
        if self.reward_clip is not None and not self.reward_clip > 0:
            problem = f"reward_clip is {self.reward_clip}; it must be above 0 (leave it out for none)"
            yield "reward_clip", problem
        for key in self.options:
            if key in _ELSEWHERE:
                yield "options", f"options.{key} does not belong here: {_ELSEWHERE[key]}"


class NamedTask(Task, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several tasks that are learned together: the keys of `[task]`, and these."""

    name: Annotated[
        str,
        msgspec.Meta(
            pattern="^[A-Za-z0-9_][A-Za-z0-9_-]*$",
            max_length=40,
            description="what the task is called in settings, metrics and views",
            extra={"words": "a name of letters, digits, _ and -, at most 40 of them"},
        ),
    ]
    share: Annotated[
        float, msgspec.Meta(gt=0, le=1e6, description="of every batch, relative to the other tasks' shares")
    ] = 1.0


Tasks = Annotated[tuple[NamedTask, ...], msgspec.Meta(min_length=1)]
"""The `[[tasks]]` of a topology file, in place of `[task]`: learned together, by one network."""


def tasks_in(tables: Mapping[str, Any]) -> tuple[Task, ...]:
    """All tasks among an actor's tables, `[task]` or `[[tasks]]`; none if they are missing or wrong."""
    several, one = tables.get("tasks"), tables.get("task")
    if isinstance(several, tuple):
        return several
    return (one,) if isinstance(one, Task) else ()


def task_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The tasks' names; a `[task]` is named by its environment."""
    return tuple(task.name if isinstance(task, NamedTask) else task.env for task in tasks)


def share_of(task: Task) -> float:
    """The task's share of a batch, relative to the other tasks."""
    return task.share if isinstance(task, NamedTask) else 1.0


def batch_rows(tasks: Sequence[Task], rows: int) -> list[int]:
    """Number of a batch's rows for each task: in proportion to the shares, and at least one.

    The rows left by rounding go to the largest remainders. Raises ValueError if there are fewer rows than
    tasks.
    """
    if rows < len(tasks):
        raise ValueError(f"a batch of {rows} can't have rows of each of {len(tasks)} tasks")
    shares = list(map(share_of, tasks))
    spare = rows - len(tasks)
    exact = [max(0.0, share / sum(shares) * rows - 1) for share in shares]
    exact = [spare * part / (sum(exact) or 1.0) for part in exact]
    given = [int(part) for part in exact]
    for task in sorted(range(len(tasks)), key=lambda task: given[task] - exact[task])[: spare - sum(given)]:
        given[task] += 1
    return [1 + part for part in given]
