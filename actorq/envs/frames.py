"""Stacking the latest frames of each environment for acting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class FrameStack:
    """The latest `stack` frames of each environment, oldest first; an episode's first frame is repeated for
    those before it.

    Replay rebuilds stacks from single frames by the same rule (`actorq.roles.common.adder`), so the network
    acts on exactly what it learns from.
    """

    def __init__(
        self, environments: int, frame_shape: tuple[int, ...], dtype: np.dtype[Any], stack: int
    ) -> None:
        self._stack = stack
        self._frames = np.zeros((environments, stack, *frame_shape), dtype)

    def reset(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Restart every environment with `frames` [E, *frame_shape]; returns what `push` returns."""
        if self._stack == 1:
            return frames
        self._frames[:] = frames[:, None]
        return self._frames

    def push(self, frames: NDArray[Any], starts: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Append frames [E, *frame_shape]; `starts` [E] marks those that are the first of their episode.

        `starts` may be None if no episode begins. Returns observations [E, stack, *frame_shape], or the
        frames themselves if `stack` is 1. They are overwritten by the next call: copy them to keep them.
        """
        if self._stack == 1:
            return frames
        stacked = self._frames
        # One slot at a time: a single overlapping assignment would make numpy copy the whole stack first.
        for slot in range(self._stack - 1):
            stacked[:, slot] = stacked[:, slot + 1]
        stacked[:, -1] = frames
        if starts is not None and starts.any():
            stacked[starts] = frames[starts][:, None]
        return stacked
