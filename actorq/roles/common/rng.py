"""The state of a numpy random generator, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Its bit generator's state: a dict of text and integers (128-bit ones among them)."""
    return dict(generator.bit_generator.state)


def load_generator(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Make the generator go on as the one that `state` was taken of."""
    generator.bit_generator.state = state
