"""Acting from a flat vector: numpy and torch give the same actions, but for near ties."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.learning.agent import Agent
from actorq.learning.networks.factory import make_parameters
from actorq.learning.networks.numpy_acting import NumpyPolicy, make_policy
from actorq.learning.networks.torch_acting import TorchPolicy
from actorq.learning.target import TargetNetwork

TOLERANCE = 1e-5  # stated in acting.Policy: |difference| <= 1e-5 * max(1, |Q|)


def draw(
    batch: int, shape: tuple[int, ...], dtype: str, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    if dtype in ("float32", "float64"):
        return generator.normal(size=(batch, *shape)).astype(dtype)
    return generator.integers(2 if dtype == "bool" else 256, size=(batch, *shape)).astype(dtype)


@settings(max_examples=50)
@given(
    hidden=st.lists(st.integers(1, 40), max_size=3),
    dueling=st.booleans(),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    dtype=st.sampled_from(["float32", "float64", "uint8", "bool", "int64"]),
    actions=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_numpy_gives_the_values_of_torch(
    hidden: list[int], dueling: bool, shape: list[int], dtype: str, actions: int, seed: int
) -> None:
    agent = Agent(hidden=tuple(hidden), dueling=dueling and bool(hidden), dtype="float64")
    vector = make_parameters(agent, shape, dtype, actions, seed).read()
    in_numpy, in_torch = (
        NumpyPolicy(agent, shape, dtype, actions),
        TorchPolicy(agent, shape, dtype, actions, "cpu"),
    )
    generator = np.random.default_rng(seed)
    for batch in (3, 3, 1):
        observations = draw(batch, tuple(shape), dtype, generator)
        observations.flags.writeable = False
        for policy in (in_numpy, in_torch):
            policy.load(vector)
        np.testing.assert_allclose(
            in_numpy.q_values(observations), in_torch.q_values(observations), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("dueling", [False, True])
def test_the_same_actions_but_for_near_ties(dueling: bool) -> None:
    agent = Agent(hidden=(128, 128), dueling=dueling)
    vector = make_parameters(agent, (4,), "float32", 3, seed=0).read() * 2.0
    in_numpy, in_torch = NumpyPolicy(agent, (4,), "float32", 3), TorchPolicy(agent, (4,), "float32", 3, "cpu")
    in_numpy.load(vector)
    in_torch.load(vector)
    generator = np.random.default_rng(0)
    for _ in range(20):
        observations = draw(5000, (4,), "float32", generator)
        first, second = in_numpy.q_values(observations), in_torch.q_values(observations)
        scale = np.maximum(1.0, np.abs(second))
        assert (np.abs(first - second) <= TOLERANCE * scale).all()
        best = np.sort(second, axis=1)
        decided = best[:, -1] - best[:, -2] > 2 * TOLERANCE * scale.max(axis=1)
        assert decided.mean() > 0.99
        np.testing.assert_array_equal(first.argmax(1)[decided], second.argmax(1)[decided])


def test_loading_copies() -> None:
    agent = Agent(hidden=(8,))
    policy = make_policy(agent, (2,), "float32", 2)
    vector = make_parameters(agent, (2,), "float32", 2, seed=0).read()
    policy.load(vector)
    before = policy.q_values(np.ones((1, 2), np.float32)).copy()
    vector[:] = 0.0
    np.testing.assert_array_equal(policy.q_values(np.ones((1, 2), np.float32)), before)
    assert before.any()


@pytest.mark.parametrize("network", ["mlp", "minatar_cnn"])
def test_all_values_are_zero_before_the_first_load(network: str) -> None:
    policy = make_policy(Agent(network=network), (4, 10, 10), "bool", 3, device="cpu")
    assert not policy.q_values(np.ones((2, 4, 10, 10), np.bool_)).any()


def test_a_network_with_dropout_acts_and_evaluates_without() -> None:
    agent = Agent(network="tests.learning.custom:Forgetful")
    online = make_parameters(agent, (20,), "float32", 2, seed=0)
    policy = make_policy(agent, (20,), "float32", 2, "cpu")
    policy.load(online.read())
    ones = np.ones((1, 20), np.float32)
    first = policy.q_values(ones).copy()
    np.testing.assert_array_equal(policy.q_values(ones), first)
    target = TargetNetwork(agent, online).parameters.module
    np.testing.assert_allclose(target(torch.ones(1, 20)).detach().numpy(), first, rtol=1e-5)
    assert online.module.training


@pytest.mark.parametrize("policy_type", [NumpyPolicy, TorchPolicy])
def test_what_does_not_fit_is_refused(policy_type: type[NumpyPolicy] | type[TorchPolicy]) -> None:
    policy = policy_type(Agent(hidden=(4,)), (3,), "float32", 2)
    with pytest.raises(ValueError, match="vector"):
        policy.load(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="observations"):
        policy.q_values(np.zeros((2, 4), np.float32))


def test_the_policy_suits_network_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_policy(Agent(), (4,), "float32", 2, "auto"), NumpyPolicy)
    assert isinstance(
        make_policy(Agent(network="tests.learning.custom:Tanh"), (4,), "float32", 2, "cpu"), TorchPolicy
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        make_policy(Agent(), (4,), "float32", 2, "cuda:0")
    with pytest.raises(ValueError, match="fully connected"):
        NumpyPolicy(Agent(network="nature_cnn"), (4, 84, 84), "uint8", 2)


def test_an_mlp_acts_without_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
import numpy as np
import actorq.learning.exploration, actorq.learning.device
from actorq.learning.networks.numpy_acting import make_policy
from actorq.learning.agent import Agent
print(make_policy(Agent(dueling=True), (4,), "float32", 2).q_values(np.ones((3, 4), np.float32)).shape)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(3, 2)", result.stderr
