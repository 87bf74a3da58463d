"""Fixtures of the whole suite."""

import gc
import os
from collections import Counter, defaultdict
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

# Small networks learn four times as fast on one thread as on two that wait for each other by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no reason to fail.
settings.register_profile("actorq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("actorq")

ONE_BACK_END = tuple(Path(__file__).parent / folder for folder in ("launchers", "recipes", "replay", "roles"))
"""In their tests nodes are processes, or networks learn."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of ONE_BACK_END as slow on one of both back ends: on which, alternates.

    A function's sets of parameters take turns, so that most functions run on both.
    """
    variants: defaultdict[tuple[str, ...], list[pytest.Item]] = defaultdict(list)
    for item in items:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        backend = values.get("anyio_backend", values.get("backend"))
        slow = item.get_closest_marker("slow") is not None
        if backend is not None and not slow and any(map(item.path.is_relative_to, ONE_BACK_END)):
            function, _, names = item.nodeid.removesuffix("]").partition("[")
            others = names.split("-")
            others.remove(backend)
            variants[function, *others].append(item)
    turns: Counter[str] = Counter()
    for (function, *_), alike in variants.items():
        turns[function] += 1
        chosen = alike[(crc32(function.encode()) + turns[function]) % len(alike)]
        for item in alike:
            if item is not chosen:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave all that collecting imported out of garbage collection: a tenth less processor time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop under a test marked `anyio`: each such test runs once on either."""
    backend: str = request.param
    return backend
