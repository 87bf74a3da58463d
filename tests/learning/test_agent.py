"""The `[agent]` table: what is refused, and with which words."""

from typing import Any

import msgspec
import pytest

from actorq.learning.agent import Agent


def problems(**settings: Any) -> list[tuple[str, str]]:
    return list(msgspec.convert(settings, Agent).problems())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": []},
        {"network": "nature_cnn", "dueling": True},
        {"network": "my_package.networks:Mine", "dqn": {"double": False}},
        {"polyak": 0.005},
        {"optimizer": "rmsprop", "rmsprop_decay": 0.9, "optimizer_epsilon": 1e-5},
    ],
)
def test_settings_that_agree_have_no_problems(settings: dict[str, Any]) -> None:
    assert problems(**settings) == []


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"network": "nature_cn"}, "network", "did you mean 'nature_cnn'"),
        ({"network": "module:"}, "network", "package.module:Class"),
        ({"network": "3:4"}, "network", "package.module:Class"),
        ({"network": "m:Net", "hidden": [8]}, "hidden", "chooses its own layers"),
        ({"network": "m:Net", "dueling": True}, "dueling", "declared networks"),
        ({"hidden": [], "dueling": True}, "dueling", "hidden is []"),
        ({"target_every_updates": 10, "polyak": 0.1}, "polyak", "not both"),
        ({"optimizer": "rmsprop", "adam_betas": [0.9, 0.99]}, "adam_betas", "rmsprop"),
        ({"rmsprop_decay": 0.9}, "rmsprop_decay", "adam"),
    ],
)
def test_contradictions_name_field_and_reason(settings: dict[str, Any], field: str, words: str) -> None:
    [(found, sentence)] = problems(**settings)
    assert found == field
    assert words in sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": [0]},
        {"gamma": 1.5},
        {"n_step": 0},
        {"loss": "hinge"},
        {"learning_rate": 0.0},
        {"optimizer": "sgd"},
        {"adam_betas": [0.9, 1.0]},
        {"batch_size": 0},
        {"max_gradient_norm": 0.0},
        {"target_every_updates": 0},
        {"polyak": 0.0},
        {"dtype": "float16"},
        {"gama": 0.9},
    ],
)
def test_single_values_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Agent)


def test_every_field_is_described_in_the_schema() -> None:
    properties = msgspec.json.schema(Agent)["$defs"]["Agent"]["properties"]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


def test_hidden_widths_left_out_are_those_of_the_papers() -> None:
    assert Agent(network="nature_cnn").hidden_widths == (512,)
    assert Agent(network="minatar_cnn").hidden_widths == (128,)
    assert Agent(hidden=()).hidden_widths == ()
