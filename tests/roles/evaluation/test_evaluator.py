"""The evaluator: when it evaluates, when the task counts as solved, which parameters it keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from actorq.actors import ActorSpec, System
from actorq.envs.make import describe
from actorq.envs.task import NamedTask, Task
from actorq.learning.networks.task_layout import TaskLayout
from actorq.roles.evaluation.evaluator import Evaluator
from actorq.roles.evaluation.solve_criterion import (
    ReturnToReach,
    SolveCriterion,
    StopTable,
    criterion_problems,
)
from actorq.roles.replay.messages import Version, Weights
from actorq.topology import TopologyError, check
from tests.roles.actors import AGENT, MOODY, Moody, Publish, Watch, WeightPublisher, moody, spec, weights

pytestmark = pytest.mark.anyio

SOLVED = StopTable(solved=ReturnToReach(mean_return=0.7, episodes=3))


def actors(task: Task, stop: StopTable = SOLVED, **config: Any) -> list[ActorSpec]:
    tables = {"task": task, "agent": AGENT, "stop": stop}
    given = Evaluator.Config(every_updates=10, **config)
    return [
        spec("learner", WeightPublisher),
        spec("evaluator", Evaluator, {"weights": "learner"}, given, tables=tables),
    ]


async def publish(system: System, updates: int, incarnation: int = 0) -> None:
    await system.ref("learner").tell(Publish([weights(updates, incarnation)]))


async def test_solved_is_measured_twice_on_fresh_seeds() -> None:
    Moody.seeds.clear()
    watch = Watch()
    async with System(actors(moody(1.0, 0.5, 0.75, 0.875)), reports=watch) as system:
        await publish(system, 10)
        await watch.progress.has(("evaluations", 2))
        assert watch.all_of("evaluation_return_mean") == [1.0, 0.5]
        assert watch.all_of("solved") == []
        await publish(system, 20)
        await watch.readings.has(("solved", 1.0))
        await publish(system, 30)  # it leaves it at that
    assert watch.all_of("evaluation_return_mean") == [1.0, 0.5, 0.75, 0.875]
    assert watch.all_of("evaluation_episodes") == [3.0] * 4
    assert watch.all_of("solved") == [1.0]
    assert len(set(Moody.seeds)) == len(Moody.seeds) == 4 * 3, "each measurement on seeds of its own"
    kept = system.final_states["evaluator"]
    assert (kept["updates"], kept["score"]) == (20, 0.875), "what was solved with, not the best"
    assert (kept["parameters"] == 20).all()


async def test_plays_every_so_many_updates() -> None:
    watch = Watch()
    async with System(actors(moody()), reports=watch) as system:
        for updates, expected in [(9, 0), (10, 1), (19, 1), (25, 2), (34, 2), (35, 3)]:
            await publish(system, updates)
            if expected > len(watch.all_of("evaluation_return_mean")):
                await watch.progress.has(("evaluations", expected))
            assert watch.counts["evaluations"] == expected


async def test_another_incarnation_of_the_learner_is_evaluated_at_once() -> None:
    watch = Watch()
    async with System(actors(moody()), reports=watch) as system:
        await publish(system, 1000)
        await watch.progress.has(("evaluations", 1))
        await publish(system, 0, incarnation=1)
        await watch.progress.has(("evaluations", 2))
        await publish(system, 10, incarnation=1)
        await watch.progress.has(("evaluations", 3))


async def test_without_a_goal_it_keeps_the_best_and_is_never_solved() -> None:
    watch = Watch()
    async with System(actors(moody(0.0, 1.0), StopTable(), episodes=2), reports=watch) as system:
        for number in (1, 2, 3):
            await publish(system, 10 * number)
            await watch.progress.has(("evaluations", number))
    assert watch.all_of("evaluation_return_mean") == [0.0, 1.0, 0.0]
    assert watch.all_of("evaluation_episodes") == [2.0] * 3
    assert watch.all_of("solved") == []
    assert system.final_states["evaluator"]["updates"] == 20


async def test_continues_from_its_state() -> None:
    """The next evaluation when it was due, the best as it was, and seeds that it has not yet seen."""
    Moody.seeds.clear()
    async with System(actors(moody(1.0), StopTable()), reports=(watch := Watch())) as system:
        await publish(system, 10)
        await watch.progress.has(("evaluations", 1))
    states = system.final_states
    async with System(actors(moody(), StopTable()), states=states, reports=(watch := Watch())) as system:
        await publish(system, 19)
        await publish(system, 21)
        await watch.progress.has(("evaluations", 1))
    kept = system.final_states["evaluator"]
    assert (kept["updates"], kept["score"], kept["next_updates"]) == (10, 1.0, 31)
    assert len(set(Moody.seeds)) == len(Moody.seeds)
    assert isinstance(kept["parameters"], np.ndarray)


def named(name: str, *returns: float) -> NamedTask:
    return NamedTask(name=name, env=MOODY, options={"returns": list(returns)})


async def test_several_tasks_are_all_to_reach_their_marks_twice() -> None:
    """The second task falls short the first time; the third has no mark and may do as it likes."""
    tasks = (named("a", 1.0, 1.0, 1.0), named("b", 0.0, 0.5, 0.75), named("c", 0.25))
    agent = msgspec.structs.replace(AGENT, hidden=(2, 2))
    wanted = StopTable(solved=ReturnToReach(mean_return={"a": 1.0, "b": 0.5}, episodes=2))
    evaluator = spec(
        "evaluator",
        Evaluator,
        {"weights": "learner"},
        Evaluator.Config(every_updates=10),
        tables={"tasks": tasks, "agent": agent, "stop": wanted},
    )
    spaces = [describe(task) for task in tasks]
    parameters = np.zeros(TaskLayout(agent, spaces).size, np.float32)
    watch = Watch()
    async with System([spec("learner", WeightPublisher), evaluator], reports=watch) as system:
        for updates in (10, 20):
            await system.ref("learner").tell(Publish([Weights(Version(0, updates), parameters + updates)]))
            await watch.progress.has(("evaluations", updates // 10))
        await watch.readings.has(("solved", 1.0))
    assert watch.all_of("evaluation_return_mean/a") == [1.0, 1.0, 1.0]
    assert watch.all_of("evaluation_return_mean/b") == [0.0, 0.5, 0.75]
    assert watch.all_of("evaluation_return_mean/c") == [0.25, 0.0, 0.0]
    assert watch.all_of("evaluation_episodes") == [6.0] * 3
    assert watch.all_of("evaluation_return_mean") == pytest.approx([1.25 / 3, 0.5, 1.75 / 3])
    assert system.final_states["evaluator"]["updates"] == 20


def test_what_lies_above_one_mark_makes_up_for_no_other() -> None:
    marks = SolveCriterion(["a", "b"], ReturnToReach(mean_return={"a": 100.0, "b": -100.0}))
    good, better = (
        {"a": np.array([100.0, a]), "b": np.array([-100.0, b])} for a, b in ((300.0, -120.0), (100.0, -110.0))
    )
    assert marks.score(good) < marks.score(better)
    assert not marks.reached(better)
    assert marks.reached({"a": np.array([90.0, 110.0]), "b": np.array([-100.0])})
    alone = SolveCriterion(["a"], ReturnToReach(mean_return=100.0))
    assert alone.score({"a": np.array([300.0])}) == 300.0


@pytest.mark.parametrize(
    ("wanted", "where", "words"),
    [
        (475.0, "stop.solved.return", "a = …, b = …"),
        ({}, "stop.solved.return", "no task"),
        ({"a": 1.0, "d": 2.0}, "stop.solved.return.d", "there are a, b"),
    ],
)
def test_marks_that_speak_of_no_task(wanted: Any, where: str, words: str) -> None:
    stop = StopTable(solved=ReturnToReach(mean_return=wanted))
    ((place, sentence),) = criterion_problems({"tasks": (named("a"), named("b")), "stop": stop})
    assert place == where
    assert words in sentence


def test_right_marks_are_no_problems() -> None:
    for wanted, tables in (
        (1.0, {"task": moody(), "tasks": None}),
        ({MOODY: 1.0}, {"task": moody(), "tasks": None}),
        ({"a": 1.0}, {"tasks": (named("a"), named("b"))}),
    ):
        assert (
            list(criterion_problems({**tables, "stop": StopTable(solved=ReturnToReach(mean_return=wanted))}))
            == []
        )


def test_marks_are_not_held_against_tasks_that_have_problems_themselves() -> None:
    with pytest.raises(TopologyError) as caught:
        check("multitask", ["tasks.0.share=-1", "task.env=CartPole-v1"])
    assert [problem.where for problem in caught.value.problems] == ["tasks[0].share"]


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("task.env=CartPole-v1", "no exact Q-values"),
        ("task.frame_stack=2", "task.frame_stack"),
        ("task.reward_scale=2.0", "task.reward_scale"),
        ("task.reward_clip=1.0", "task.reward_clip"),
        ("agent.gamma=1.0", "agent.gamma"),
        ("agent.network=nature_cnn", "takes pictures"),
        ("actors.evaluator.config.max_q_error=0", "max_q_error"),
    ],
)
async def test_what_has_no_exact_values_is_refused(override: str, where: str) -> None:
    overrides = [override, "task.options={}"] if "env" in override else [override]
    with pytest.raises(TopologyError, match=where):
        check("gridworld", overrides)
