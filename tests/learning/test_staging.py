"""Batches that were staged before: learned from as if they had come as arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actorq.learning.agent import Agent
from actorq.learning.staging import AheadStaging, BatchStaging
from actorq.learning.update import LearningRule

from .test_update import draw, setting

PICTURES = (2, 36, 36)


def test_a_staged_batch_is_learned_from_as_its_arrays_are() -> None:
    agent = Agent(network="nature_cnn", hidden=(8,))
    online, target = setting(agent, PICTURES, "uint8")
    rule = LearningRule(agent, online, target)
    batches = [draw(4, PICTURES, "uint8", seed) for seed in range(2)]
    staged = [BatchStaging(online.dtype, online.device)(batch) for batch in batches]
    for batch, one in zip(batches, staged, strict=True):
        expected = rule(batch)
        gradient = online.gradient.clone()
        learned = rule(one)
        assert learned.loss == expected.loss
        np.testing.assert_array_equal(learned.priorities, expected.priorities)
        assert torch.equal(online.gradient, gradient)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_what_is_staged_ahead_waits_for_its_copy() -> None:
    device = torch.device("cuda:0")
    ahead = AheadStaging(torch.float32, device, batches=4)
    batches = [draw(64, PICTURES, "uint8", seed) for seed in range(4)]
    for _ in range(3):
        for batch, staged in zip(batches, ahead(batches), strict=True):
            staged.wait()
            found = staged.observations.cpu().numpy()
            both = np.concatenate([batch.observations, batch.next_observations])
            np.testing.assert_allclose(found, both / np.float32(255.0), rtol=1e-6)
