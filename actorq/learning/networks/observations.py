"""Scaling of observations to the range that networks take. Free of torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike


def observation_scale(dtype: DTypeLike) -> float:
    """Factor by which observations are multiplied before they enter a network.

    Bytes are image data and are scaled to 0..1 (Mnih et al. 2015 divide by 255); everything else is
    unchanged. Raises ValueError for a dtype without real numbers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise ValueError(
            f"observations of dtype {dtype} are no numbers; a Q-network takes bool, int or float"
        )
    return 1.0 / 255.0 if dtype == np.uint8 else 1.0
