"""Fixtures of the topology's tests."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """What a test imports, and what it adds to the import path, is gone afterwards."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
