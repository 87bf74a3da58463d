"""Task assignment: an explorer's task, the shards for its chunks, and its reports."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.actors import System, handles
from actorq.envs.task import NamedTask
from actorq.roles.common.task_assignment import choose_task
from actorq.roles.replay.messages import Insert, Inserted
from actorq.testing import Record
from actorq.topology import TopologyError, check
from tests.actors.world import AT_ONCE, fresh
from tests.roles.actors import Inbox, Publish, Watch
from tests.roles.inference.asked import BOTH, MLP, initial, topology


@given(tasks=st.integers(1, 5), count=st.integers(1, 20))
def test_members_take_the_tasks_in_turn(tasks: int, count: int) -> None:
    named = [NamedTask(name=f"t{task}", env="CartPole-v1") for task in range(tasks)]
    chosen = [choose_task(None, named, index, count) for index in range(count)]
    for task in range(tasks):
        mine = [choice for choice in chosen if choice.task == task]
        assert [choice.index for choice in mine] == list(range(len(mine))), "places without a gap"
        assert {choice.count for choice in mine} <= {len(mine)}
        assert count // tasks <= len(mine) <= -(-count // tasks)


@given(tasks=st.integers(1, 4), each=st.integers(1, 7), instances=st.integers(1, 4))
def test_each_instance_of_a_group_takes_the_same_tasks(tasks: int, each: int, instances: int) -> None:
    named = [NamedTask(name=f"t{task}", env="CartPole-v1") for task in range(tasks)]
    count = each * instances
    chosen = [choose_task(None, named, index, count, instances) for index in range(count)]
    alone = [choose_task(None, named, index, each) for index in range(each)]
    assert [choice.task for choice in chosen] == [choice.task for choice in alone] * instances
    for task in range(tasks):
        mine = [choice for choice in chosen if choice.task == task]
        assert [choice.index for choice in mine] == list(range(len(mine))), "places without a gap"
        assert {choice.count for choice in mine} <= {len(mine)}


def test_a_named_task_is_all_members() -> None:
    chosen = [choose_task("noise", BOTH, index, 3) for index in range(3)]
    assert [(it.task, it.index, it.count) for it in chosen] == [(1, 0, 3), (1, 1, 3), (1, 2, 3)]


class Named(Inbox):
    inserted: ClassVar[Record[tuple[str, Insert]]]

    @handles
    async def insert(self, request: Insert) -> Inserted:
        self.inserted.add((self.name, request))
        return await super().insert(request)


@pytest.mark.anyio
@pytest.mark.parametrize("asking", [True, False])
async def test_chunks_go_to_the_shards_of_their_task_and_returns_are_separate(asking: bool) -> None:
    inserted: Record[tuple[str, Insert]] = Record()
    watch = Watch()
    inbox = fresh(Named, inserted=inserted)
    specs = topology(Record(), BOTH, MLP, explorers=4, asking=asking, inbox=inbox)
    async with System(specs, AT_ONCE, reports=watch) as system:
        await system.ref("learner").tell(Publish([initial(BOTH, MLP)]))
        await inserted.reaches(16)
    frames = {"replay.poles": (4,), "replay.noise": (36, 36)}
    assert {name for name, _ in inserted.entries} == frames.keys()
    assert all(insert.chunk.frames.shape[1:] == frames[name] for name, insert in inserted.entries)
    poles = [insert.chunk for name, insert in inserted.entries if name == "replay.poles"]
    most = 0.5 * sum(MLP.gamma**step for step in range(MLP.n_step))
    assert max(chunk.returns.max() for chunk in poles) == pytest.approx(most), "scaled to learn from"
    assert max(watch.all_of("episode_return/poles")) > MLP.n_step, "and reported as they are"
    together = watch.all_of("episode_return")
    assert sorted(together) == sorted(
        watch.all_of("episode_return/poles") + watch.all_of("episode_return/noise")
    )


def crew(explorers: int = 2, **config: Any) -> dict[str, Any]:
    names = ("cart", "acrobot")
    return {
        "tasks": [
            {"name": name, "env": env} for name, env in zip(names, ("CartPole-v1", "Acrobot-v1"), strict=True)
        ],
        "agent": {"hidden": [8, 8]},
        "stop": {"updates": 1},
        "actors": {
            "limiter": {"role": "rate_limiter"},
            "replay": {"role": "replay", "count": 2, "ports": {"limiter": "limiter"}},
            "learner": {"role": "learner", "ports": {"replay": "replay"}},
            "explorer": {
                "role": "environment",
                "count": explorers,
                "ports": {"replay": "replay", "weights": "learner"},
                "config": config,
            },
        },
    }


@pytest.mark.parametrize(
    ("explorers", "config", "problem"),
    [
        (2, {"task": "cat"}, r'explorer\.config\.task: "cat" is not one of the tasks: cart, acrobot'),
        (2, {"task": "cart"}, r'explorer\.ports\.replay: no explorer has the task "acrobot" there'),
        (1, {}, r'explorer\.ports\.replay: no explorer has the task "acrobot" there'),
    ],
)
def test_each_task_has_an_explorer(explorers: int, config: dict[str, Any], problem: str) -> None:
    check(crew())
    with pytest.raises(TopologyError, match=problem):
        check(crew(explorers, **config))


@pytest.mark.parametrize("wrong", [{"share": -1}, {"env": "CartPol-v1"}])
def test_a_problem_in_tasks_brings_no_others_about_choosing(wrong: dict[str, Any]) -> None:
    tables = crew()
    del tables["actors"]["explorer"]
    for name in ("cart", "acrobot"):
        ports = {"replay": "replay", "weights": "learner"}
        tables["actors"][name] = {"role": "environment", "ports": ports, "config": {"task": name}}
    check(tables)
    tables["tasks"][0].update(wrong)
    with pytest.raises(TopologyError) as caught:
        check(tables)
    [problem] = caught.value.problems
    assert problem.where == f"tasks[0].{next(iter(wrong))}"


def test_there_is_nothing_to_choose_with_one_task() -> None:
    one = crew(task="cart")
    del one["tasks"]
    with pytest.raises(TopologyError, match=r"explorer\.config\.task: there are no \[\[tasks\]\]"):
        check({**one, "task": {"env": "CartPole-v1"}})
