"""Entry points: plug-ins of installed packages, by entry-point group."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def entry_points_of(group: str) -> Mapping[str, EntryPoint]:
    """Name to entry point of a group, sorted by name; of two with one name, the first on sys.path.

    Cached until sys.path or a folder on it changes: the metadata of all installed packages is read for it.
    """
    return _read(group, tuple((path, _changed(path)) for path in sys.path))


def _changed(path: str) -> int:
    try:
        return Path(path or ".").stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache
def _read(group: str, folders: tuple[tuple[str, int], ...]) -> Mapping[str, EntryPoint]:
    from importlib.metadata import entry_points  # here: a node's process needs none, and is to start fast

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return MappingProxyType(dict(sorted(found.items())))
