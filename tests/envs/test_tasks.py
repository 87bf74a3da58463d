"""Several tasks: the number of a batch's rows for each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorq.envs.task import NamedTask, Task, batch_rows, task_names, tasks_in


def tasks(*shares: float) -> list[NamedTask]:
    return [NamedTask(env="CartPole-v1", name=f"t{i}", share=share) for i, share in enumerate(shares)]


SHARES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8)


@given(SHARES, st.integers(0, 500))
def test_all_rows_are_given_and_everyone_has_one(shares: list[float], more: int) -> None:
    rows = len(shares) + more
    given = batch_rows(tasks(*shares), rows)
    assert sum(given) == rows
    assert min(given) >= 1


@given(SHARES)
def test_rows_are_in_proportion(shares: list[float]) -> None:
    given = batch_rows(tasks(*shares), 1_000_000_000)
    assert given == pytest.approx([share / sum(shares) * 1e9 for share in shares], abs=2 * len(shares) + 2)


def test_little_batches() -> None:
    assert batch_rows(tasks(1, 1, 1), 128) == [43, 43, 42]
    assert batch_rows(tasks(2, 1, 1), 128) == [64, 32, 32]
    assert batch_rows(tasks(98, 1, 1), 6) == [4, 1, 1]
    assert batch_rows([Task(env="CartPole-v1")], 7) == [7]
    with pytest.raises(ValueError, match="each of 3 tasks"):
        batch_rows(tasks(1, 1, 1), 2)


def test_what_is_learned_is_one_task_or_several() -> None:
    one, several = Task(env="CartPole-v1"), tuple(tasks(1, 2))
    assert tasks_in({"task": one, "tasks": None}) == (one,)
    assert tasks_in({"task": None, "tasks": several}) == several
    assert tasks_in({}) == ()
    assert task_names((one,)) == ("CartPole-v1",)
    assert task_names(several) == ("t0", "t1")
