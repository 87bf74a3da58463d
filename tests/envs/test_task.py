from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from actorq.envs.task import Task


@pytest.mark.parametrize(
    ("table", "field", "says"),
    [
        ({"env": "  "}, "env", "blank"),
        ({"env": "module:"}, "env", "half a name"),
        ({"env": ":Class"}, "env", "half a name"),
        ({"env": "X-v0", "reward_clip": 0.0}, "reward_clip", "above 0"),
        ({"env": "X-v0", "reward_clip": float("nan")}, "reward_clip", "above 0"),
        ({"env": "X-v0", "options": {"max_episode_steps": 3}}, "options", "set max_episode_steps in"),
        ({"env": "X-v0", "options": {"stack_num": 4}}, "options", "frame_stack"),
        ({"env": "X-v0", "options": {"render_mode": "human"}}, "options", "evaluator"),
    ],
)
def test_problems_name_the_key(table: dict[str, object], field: str, says: str) -> None:
    ((found, sentence),) = msgspec.convert(table, Task).problems()
    assert found == field
    assert says in sentence


def test_a_plain_task_has_no_problem() -> None:
    assert not list(Task(env="CartPole-v1", reward_clip=1.0, frame_stack=4, options={"a": 1}).problems())


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"env": ""},
        {"env": "X-v0", "frame_stack": 0},
        {"env": "X-v0", "max_episode_steps": 0},
        {"env": "X-v0", "channels": "middle"},
        {"env": "X-v0", "options": [1]},
        {"env": "X-v0", "frame_stacks": 4},
    ],
)
def test_what_the_types_refuse(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Task)


def test_every_field_is_described_in_the_schema() -> None:
    properties = msgspec.json.schema(Task)["$defs"]["Task"]["properties"]
    assert set(properties) == set(Task.__struct_fields__)
    assert all("description" in value for value in properties.values())


@pytest.mark.parametrize("module", ["actorq.envs", "actorq.envs.task", "actorq.envs.grid"])
def test_plain_modules_import_no_gymnasium(module: str) -> None:
    code = f"import sys, {module}; sys.exit('gymnasium' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_making_environments_imports_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from actorq.envs.make import Task, make_environments\n"
        "import actorq.roles.common.adder\n"
        "make_environments(Task(env='CartPole-v1'), 2, 0).reset()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
