"""Checks before a start that need more than the topology: this machine's devices, the checkpoint's states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from actorq.actors import State
from actorq.actors.spec import ActorSpec
from actorq.roles.replay.shard import ReplayShard
from actorq.topology import Plan, TopologyError
from actorq.topology.check.members import declared_name, group_of, without_index
from actorq.topology.check.nodes import is_on_network
from actorq.topology.check.problems import Problems
from actorq.topology.check.tables import add_reported

from .records.checkpoint import CheckpointError


def check_machine(plan: Plan) -> None:
    """Raises TopologyError with everything that actors require and this machine lacks."""
    problems = Problems()
    elsewhere = {node.name for node in plan.nodes if is_on_network(node)}
    for spec in plan.specs:
        if spec.node not in elsewhere:
            _add(spec, partial(spec.cls.machine_problems, spec.config, spec.tables), problems)
    if problems:
        raise TopologyError(problems.found(), f"{plan.topology.name}, on this machine,")


def check_states(plan: Plan, states: Mapping[str, State], path: Path) -> None:
    """Raises CheckpointError with every reason why the topology can't resume from the checkpoint `path`."""
    problems = Problems()
    saved = Counter(map(without_index, states))
    planned = Counter(without_index(spec.name) for spec in plan.specs)
    tasks_now = len(plan.tables.get("tasks") or (None,))
    tasks_then = _saved_tasks(states) or tasks_now
    for spec in plan.specs:
        state = states.get(spec.name)
        if state:
            _add(spec, partial(spec.cls.state_problems, spec.config, spec.tables, state), problems)
        name = without_index(spec.name)
        expected = saved[name]
        if issubclass(spec.cls, ReplayShard):
            expected = expected * tasks_now // tasks_then  # each task has shards of its own, equally many
        if spec.cls.one_state and saved[name] and planned[name] != expected:
            of_tasks = f"; for {tasks_now} tasks it must be {expected}" if tasks_now != tasks_then else ""
            problem = f"is {planned[name]}, but the state was saved in {saved[name]} parts{of_tasks}"
            problems.add(f"actors.{declared_name(name)}.count", problem)
    _check_groups(plan, saved, planned, problems)
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems.found())
        raise CheckpointError(f"{path}: the topology can't resume from it:{lines}")


def _saved_tasks(states: Mapping[str, State]) -> int | None:
    """The number of tasks that was learned, from a learner's state; None if no state has it."""
    told = (state.get("tasks") for state in states.values())
    return next((len(tasks["names"]) for tasks in told if isinstance(tasks, Mapping)), None)


def _check_groups(plan: Plan, saved: Iterable[str], planned: Iterable[str], problems: Problems) -> None:
    """Add a problem where no actor finds its state: repeating a group renames all its actors."""
    new_names = {declared_name(name): name for name in planned}
    old_names = {declared_name(name): name for name in saved}
    kept = {declared_name(name) for name in set(saved) & set(planned)}
    for actor, old_name in old_names.items():
        if actor in new_names and actor not in kept:
            group, _ = group_of(actor, plan.topology)
            where = f"groups.{group}.count" if group else f"actors.{actor}"
            if not problems.at(where):  # one for the group is enough
                problem = f"the state was saved of {old_name}, and there is only {new_names[actor]} now"
                problems.add(where, problem)


def _add(spec: ActorSpec, tell: Callable[[], Iterable[tuple[str, str]]], problems: Problems) -> None:
    where = f"actors.{declared_name(spec.name)}"

    def place(key: str) -> str:
        return key if key.partition(".")[0] in spec.tables else f"{where}.{key}"

    add_reported(tell, place, where, problems)
