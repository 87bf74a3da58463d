"""What the learning roles check together of `[task]` and `[agent]`, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actorq.dqn.agent import Agent
from actorq.dqn.custom import load_network_class
from actorq.dqn.layout import picture_fault
from actorq.envs.task import Task, TaskError


def environment_faults(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whether the environment is there, and fits DQN and the network. The tables check themselves."""
    from actorq.envs.make import describe

    agent, task = tables.get("agent"), tables.get("task")
    if isinstance(agent, Agent) and agent.custom and not any(agent.faults()):
        try:
            load_network_class(agent.network)
        except ValueError as error:
            yield "agent.network", str(error)
    if not isinstance(task, Task) or any(task.faults()):
        return
    try:
        spaces = describe(task)
    except TaskError as error:
        yield f"task.{error.field}", str(error)
        return
    if isinstance(agent, Agent):
        fault = picture_fault(agent.network, spaces.observation_shape)
        if fault is not None:
            yield "agent.network", f"{fault}, in {task.env}; use mlp, or a network of your own"
