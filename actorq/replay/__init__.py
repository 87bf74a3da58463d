"""Replay: a priority index over a store, both addressed by ids. Knows no actors, and needs no torch.

numba is loaded when the first `PrioritizedIndex` is made, not before.
"""

from actorq.replay.buffer import Replay, ReplayStatistics, make_replay
from actorq.replay.config import ReplayConfig
from actorq.replay.experience import Batch, Chunk
from actorq.replay.index import Index
from actorq.replay.limiter import RateLimiter
from actorq.replay.priorities import PrioritizedIndex, importance_weights
from actorq.replay.store import MemoryStore
from actorq.replay.uniform import UniformIndex

__all__ = [
    "Batch",
    "Chunk",
    "Index",
    "MemoryStore",
    "PrioritizedIndex",
    "RateLimiter",
    "Replay",
    "ReplayConfig",
    "ReplayStatistics",
    "UniformIndex",
    "importance_weights",
    "make_replay",
]
