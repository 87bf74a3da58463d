"""What the learning roles check together of `[task]` and `[agent]`, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actorq.dqn.agent import Agent
from actorq.envs.task import Task, TaskError


def environment_faults(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whether the environment is there, and fits DQN and the network. The tables check themselves."""
    from actorq.envs.make import describe

    agent, task = tables.get("agent"), tables.get("task")
    if not isinstance(task, Task) or any(task.faults()):
        return
    try:
        spaces = describe(task)
    except TaskError as error:
        yield f"task.{error.field}", str(error)
        return
    if isinstance(agent, Agent) and agent.network in ("nature_cnn", "minatar_cnn"):
        shape = spaces.observation_shape
        if len(shape) != 3:
            yield (
                "agent.network",
                f"{agent.network} takes pictures [channels, height, width], but observations of {task.env} "
                f"are {list(shape)}; use mlp, or a network of your own",
            )
