"""Import cost of replay, and numba without a writable cache."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_neither_torch_nor_numba() -> None:
    loaded = run(
        "import sys\n"
        "from actorq.replay.buffer import make_replay\n"
        "from actorq.replay.config import ReplayConfig\n"
        "make_replay(ReplayConfig(sampling='uniform'))\n"
        "print([m for m in ('torch', 'numba', 'gymnasium', 'scipy') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_prioritized_sampling_works_without_a_place_for_numbas_cache() -> None:
    drawn = run(
        "from numba.core import caching\n"
        "for impl in (caching.CacheImpl, caching.CompileResultCacheImpl): impl._locator_classes = []\n"
        "import numpy as np\n"
        "from actorq.replay.sampling.prioritized import PrioritizedIndex\n"
        "index = PrioritizedIndex(4); index.add(range(4), np.ones(4))\n"
        "print(index.sample(4, np.random.default_rng(0))[0].tolist())\n"
    )
    assert drawn.strip() == "[0, 1, 2, 3]"
