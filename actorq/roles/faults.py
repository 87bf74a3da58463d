"""What the learning roles check together before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from actorq.dqn.acting import make_policy
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


def device_faults(device: str) -> Iterator[tuple[str, str]]:
    """Whether this machine has a role's `config.device`; only one that is named costs the import of torch."""
    if device in ("auto", "cpu"):
        return
    from actorq.dqn.device import resolve_device

    try:
        resolve_device(device)
    except ValueError as error:
        yield "config.device", str(error)


def network_faults(tables: Mapping[str, Any], parameters: NDArray[Any]) -> Iterator[tuple[str, str]]:
    """Whether these could be the parameters of the tables' network."""
    from actorq.envs.make import describe

    agent, spaces = tables["agent"], describe(tables["task"])
    policy = make_policy(agent, spaces.observation_shape, spaces.dtype, spaces.actions, "cpu")
    try:
        policy.load(parameters)
    except ValueError:
        yield (
            "agent",
            f"its network is another than the checkpoint's, of {parameters.size} parameters; a run goes on"
            " with the network, hidden, dueling and [task] that it began with",
        )
