"""Checks that the learning roles share, made before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from actorq.actors import SettingProblem
from actorq.envs.task import Task, TaskError, task_names, tasks_in
from actorq.learning.agent import Agent
from actorq.learning.compiling import Compile, missing_compiler
from actorq.learning.networks.custom import load_network_class
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.networks.spec import network_problem
from actorq.learning.networks.task_layout import TaskLayout

if TYPE_CHECKING:
    from actorq.envs.spaces import Spaces


def environment_problems(tables: Mapping[str, Any]) -> Iterator[SettingProblem]:
    """Problems with the environments: missing, or unsupported by DQN or the network. The tables check
    themselves.
    """
    found = tables.get("agent")
    agent = found if isinstance(found, Agent) and not any(found.problems()) else None
    if agent is not None and agent.custom:
        try:
            load_network_class(str(agent.network))
        except ValueError as error:
            yield "agent.network", str(error)
    if tables.get("tasks") is not None:
        yield from _sharing_problems(tables, agent)
    elif {"task", "tasks"} <= tables.keys() and tables["task"] is None:  # neither is there, nor wrong
        yield "task.env", "missing: name what is to be learned here, or several of them in [[tasks]]"
    for where, task in _places(tables):
        if not any(task.problems()):
            yield from _task_problems(where, task, agent)


def _places(tables: Mapping[str, Any]) -> Iterator[tuple[str, Task]]:
    """Each task, and its place in the file."""
    tasks = tasks_in(tables)
    several = tables.get("tasks") is not None
    return ((f"tasks[{index}]" if several else "task", task) for index, task in enumerate(tasks))


def _task_problems(where: str, task: Task, agent: Agent | None) -> Iterator[SettingProblem]:
    from actorq.envs.make import describe

    try:
        spaces = describe(task)
    except TaskError as error:
        yield f"{where}.{error.field}", str(error)
        return
    problem = None if agent is None else network_problem(agent, spaces.observation_shape)
    if agent is not None and problem is not None:
        other = "; use mlp, or a network of your own" if isinstance(agent.network, str) else ""
        yield "agent.network", f"{problem}, in {task.env}{other}"


def _sharing_problems(tables: Mapping[str, Any], agent: Agent | None) -> Iterator[SettingProblem]:
    """Problems with learning several tasks by one network."""
    tasks = tasks_in(tables)
    names = task_names(tasks)
    if tables.get("task") is not None:
        yield "tasks", "[task] is there as well; name one task there, or all of them in [[tasks]]"
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"tasks[{index}].name", f'"{name}" is the name of tasks[{names.index(name)}]'
    if agent is None or len(tasks) == 1:
        return
    if agent.custom:
        yield "agent.network", f"{agent.network} is made for one task; several share a built-in network"
    elif len(agent.hidden_widths) < 2:
        found = list(agent.hidden_widths)
        if isinstance(agent.network, str):
            yield (
                "agent.hidden",
                f"is {found}; tasks share all hidden layers but the first, so give two or more",
            )
        else:
            yield (
                "agent.network",
                "tasks share all but the first linear layer, so give two linear layers or more",
            )
    if agent.batch_size < len(tasks):
        yield ("agent.batch_size", f"is {agent.batch_size}; a batch has rows of each of {len(tasks)} tasks")


def device_problems(device: str) -> Iterator[SettingProblem]:
    """Problem if this machine lacks a role's `config.device`; torch is imported only for a named device."""
    if device in ("auto", "cpu"):
        return
    from actorq.learning.device import resolve_device

    try:
        resolve_device(device)
    except ValueError as error:
        yield "config.device", str(error)


def compile_problems(compile: Compile) -> Iterator[SettingProblem]:
    """Problem if this machine doesn't support a role's `config.compile`."""
    problem = None if compile == "off" else missing_compiler()
    if problem is not None:
        yield "config.compile", problem


def spaces_in(tables: Mapping[str, Any]) -> list[Spaces]:
    """The spaces of each task's environment, which is made for it. Raises TaskError."""
    from actorq.envs.make import describe

    return [describe(task) for task in tasks_in(tables)]


def optimizer_problems(tables: Mapping[str, Any], saved: str) -> Iterator[SettingProblem]:
    """Problem if the tables' optimizer is not the one whose state was saved."""
    mine = tables["agent"].optimizer
    if mine != saved:
        yield "agent.optimizer", f"is {mine}, but the run has learned with {saved}"


def network_problems(tables: Mapping[str, Any], parameters: NDArray[Any]) -> Iterator[SettingProblem]:
    """Problem if these can't be parameters of the tables' network."""
    agent, spaces = tables["agent"], spaces_in(tables)
    try:
        if len(spaces) > 1:
            TaskLayout(agent, spaces).part(parameters, 0)
        else:
            (only,) = spaces
            policy = make_policy(agent, only.observation_shape, only.dtype, only.actions, "cpu")
            policy.load(parameters)
    except ValueError:
        yield (
            "agent",
            f"its network is another than the checkpoint's, of {parameters.size} parameters; a run is resumed"
            " with the algorithm, network, hidden, dueling and [task] that it began with",
        )
