"""Task migration: new tasks are added to a checkpoint without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actorq.envs.make import describe
from actorq.envs.task import NamedTask, Task
from actorq.learning.agent import Agent
from actorq.learning.networks.task_layout import TaskLayout
from actorq.roles.learner.task_migration import TaskMigration, joining_problems
from actorq.run.open_run import RunOptions, open_run, prepare
from actorq.run.records import checkpoint
from actorq.run.records.checkpoint import CheckpointError

pytestmark = pytest.mark.anyio

MAPS = {"short": "S.G", "bent": "S..\n##G", "long": "S....G"}
AGENT = {"hidden": [6, 5], "batch_size": 12, "n_step": 1}


def topology(*names: str, **changed: Any) -> dict[str, Any]:
    """Grid worlds that are learned together until each has been evaluated: any return will do."""
    tasks = [{"name": name, "env": "actorq/GridWorld-v0", "options": {"map": MAPS[name]}} for name in names]
    count, exploring = len(names), {"envs": 2, "chunk_steps": 4, "epsilon": 1.0}
    wired = {"replay": "replay", "weights": "learner"}
    memory = {"capacity": 1000, "sampling": "uniform"}
    return {
        "tasks": tasks,
        "agent": AGENT,
        "stop": {"solved": {"return": dict.fromkeys(names, -1e9), "episodes": 2}},
        "actors": {
            "limiter": {"role": "rate_limiter", "config": {"min_size": 40, "samples_per_insert": 8.0}},
            "replay": {"role": "replay", "count": count, "ports": {"limiter": "limiter"}, "config": memory},
            "learner": {"role": "learner", "ports": {"replay": "replay"}},
            "explorer": {"role": "environment", "count": count, "ports": wired, "config": exploring},
            "evaluator": {
                "role": "evaluator",
                "ports": {"weights": "learner"},
                "config": {"every_updates": 20},
            },
        },
        **changed,
    }


def tasks(*names: str) -> tuple[NamedTask, ...]:
    return tuple(
        NamedTask(name=name, env="actorq/GridWorld-v0", options={"map": MAPS[name]}) for name in names
    )


def layout(*names: str) -> TaskLayout:
    return TaskLayout(Agent(hidden=(6, 5)), [describe(task) for task in tasks(*names)])


def last_states(run: Path) -> dict[str, Any]:
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    return checkpoint.load(path)[0]


async def run_to_its_end(out: Path, source: dict[str, Any], backend: Any, *, resume: bool = False) -> Any:
    where: dict[str, Any] = {"resume": out} if resume else {"out": out}
    async with open_run(source, backend=backend, **where) as run:
        return await run.wait()


async def test_a_third_task_joins_two(tmp_path: Path, anyio_backend_name: Any) -> None:
    before = await run_to_its_end(tmp_path, topology("short", "bent"), anyio_backend_name)
    assert set(before.tasks) == {"short", "bent"}
    states = last_states(tmp_path)
    after = await run_to_its_end(tmp_path, topology("short", "bent", "long"), anyio_backend_name, resume=True)
    assert after.updates > before.updates
    assert set(after.tasks) == {"short", "bent", "long"}
    assert after.env_steps > before.env_steps
    kept = last_states(tmp_path)
    assert kept["learner"]["tasks"]["names"] == ["short", "bent", "long"]
    assert kept["evaluator"]["tasks"] == ["short", "bent", "long"]
    assert kept["replay.0"]["replay"]["index"]["next_id"] > states["replay.0"]["replay"]["index"]["next_id"]


def test_what_is_taken_over() -> None:
    """Known tasks by name, wherever they stand; a new one's own parts stay as they were made."""
    joining = TaskMigration(
        Agent(hidden=(6, 5)), (all_three := tasks("long", "short", "bent")), spaces(all_three)
    )
    old, new = layout("short", "bent"), layout("long", "short", "bent")
    saved = TaskMigration(Agent(hidden=(6, 5)), (two := tasks("short", "bent")), spaces(two)).state()
    theirs, mine = np.arange(old.size) + 1.0, -np.arange(new.size) - 1.0
    adopted = joining.adopt(mine, theirs, saved)
    for here, there in ((1, 0), (2, 1)):
        np.testing.assert_array_equal(new.part(adopted, here), old.part(theirs, there))
    np.testing.assert_array_equal(adopted[new.encoders[0]], mine[new.encoders[0]])
    np.testing.assert_array_equal(adopted[new.heads[0]], mine[new.heads[0]])
    moments = joining.adopt_moments(
        {"optimizer": "adam", "updates": 0, "mean": np.zeros(new.size)},
        {"optimizer": "adam", "updates": 7, "mean": theirs},
        old.size,
        saved,
    )
    assert (moments["optimizer"], moments["updates"]) == ("adam", 7)
    np.testing.assert_array_equal(moments["mean"], joining.adopt(np.zeros(new.size), theirs, saved))


def spaces(tasks: tuple[Task, ...]) -> list[Any]:
    return [describe(task) for task in tasks]


def test_the_same_tasks_are_taken_over_whole() -> None:
    both = tasks("short", "bent")
    joining = TaskMigration(Agent(hidden=(6, 5)), both, spaces(both))
    theirs = np.ones(3)
    assert joining.adopt(np.zeros(3), theirs, joining.state()) is theirs


@pytest.mark.parametrize(
    ("names", "agent", "where", "words"),
    [
        (("bent", "short", "long"), (6, 5), "tasks", "short, bent: those come first"),
        (("short", "bent", "long"), (6, 4), "agent", "differ in their hidden layers"),
        (("short", "bent", "long"), (6,), "agent", "two or more hidden layers"),
        (("short", "bent"), (6, 4), "agent", "another than the checkpoint"),
    ],
)
def test_what_cannot_join(names: tuple[str, ...], agent: tuple[int, ...], where: str, words: str) -> None:
    two = tasks("short", "bent")
    saved = TaskMigration(Agent(hidden=(6, 5)), two, spaces(two)).state()
    parameters = np.zeros(layout("short", "bent").size, np.float32)
    if agent == (6,):
        saved = {"names": ["short", "bent"]}
        parameters = parameters[1:]
    tables = {"tasks": tasks(*names), "agent": Agent(hidden=agent if len(agent) > 1 else (6, 5))}
    ((place, sentence),) = joining_problems(tables, {"parameters": parameters, "tasks": saved})
    assert place == where
    assert words in sentence


async def test_a_topology_that_cannot_resume_is_refused(tmp_path: Path) -> None:
    await run_to_its_end(tmp_path, topology("short", "bent"), "asyncio")
    with pytest.raises(CheckpointError, match="short, bent: those come first"):
        prepare(RunOptions(source=topology("bent", "short"), resume=tmp_path))
    for names in (("short", "bent"), ("short", "bent", "long")):
        twice = topology(*names)
        twice["actors"]["replay"]["count"] *= 2
        with pytest.raises(CheckpointError, match=r"actors\.replay\.count: is [46], but .* in 2 parts"):
            prepare(RunOptions(source=twice, resume=tmp_path))


def test_a_lone_task_grows_by_whatever_name() -> None:
    agent = Agent(hidden=(6, 5))
    alone = Task(env="actorq/GridWorld-v0", options={"map": MAPS["short"]})
    saved = TaskMigration(agent, (alone,), spaces((alone,))).state()
    assert saved["names"] == ["actorq/GridWorld-v0"]
    grown = tasks("short", "bent")
    theirs = np.arange(layout("short").size) + 1.0
    adopted = TaskMigration(agent, grown, spaces(grown)).adopt(
        np.zeros(layout("short", "bent").size), theirs, saved
    )
    np.testing.assert_array_equal(layout("short", "bent").part(adopted, 0), theirs)
    state = {"parameters": theirs, "tasks": saved}
    assert not list(joining_problems({"agent": agent, "tasks": grown}, state))


def test_environments_that_changed_places_under_their_names() -> None:
    agent, before = Agent(hidden=(6, 5)), tasks("short", "bent")
    saved = TaskMigration(agent, before, spaces(before)).state()
    swapped = tuple(
        msgspec.structs.replace(task, options=other.options)
        for task, other in zip(before, before[::-1], strict=True)
    )
    state = {"parameters": np.zeros(layout("short", "bent").size), "tasks": saved}
    assert not list(joining_problems({"agent": agent, "tasks": before}, state))
    ((where, problem),) = joining_problems({"agent": agent, "tasks": swapped}, state)
    assert where == "tasks"
    assert "other spaces" in problem
