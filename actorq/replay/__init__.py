"""Replay: a priority index and a store, both addressed by ids. Knows no actors, and needs no torch.

numba is loaded when the first `PrioritizedIndex` is made, not before.
"""

from .buffer import ReplayBuffer, ReplayStatistics, make_replay
from .chunk import Batch, Chunk, Sample
from .config import ReplayConfig
from .memory_store import MemoryStore
from .rate_limiter import RateLimiter
from .sampling.index import Index
from .sampling.prioritized import PrioritizedIndex, importance_weights
from .sampling.uniform import UniformIndex

__all__ = [
    "Batch",
    "Chunk",
    "Index",
    "MemoryStore",
    "PrioritizedIndex",
    "RateLimiter",
    "ReplayBuffer",
    "ReplayConfig",
    "ReplayStatistics",
    "Sample",
    "UniformIndex",
    "importance_weights",
    "make_replay",
]
