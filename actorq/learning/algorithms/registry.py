"""The installed algorithms, found by the entry-point group `actorq.algorithms`. Free of torch."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from .algorithm import Algorithm

ENTRY_POINTS = "actorq.algorithms"


@cache
def installed_algorithms() -> dict[str, type[Algorithm] | str]:
    """Each installed algorithm by name: its class, or the reason why it can't be used. Imports their
    modules.
    """
    return {point.name: _load(point) for point in entry_points(group=ENTRY_POINTS)}


def usable_algorithms() -> dict[str, type[Algorithm]]:
    """The classes that can be used, by name."""
    return {name: found for name, found in installed_algorithms().items() if not isinstance(found, str)}


def _load(point: EntryPoint) -> type[Algorithm] | str:
    try:
        found = point.load()
        if not (isinstance(found, type) and issubclass(found, Algorithm)):
            raise TypeError(f"{point.value} is no subclass of actorq.learning.algorithms.Algorithm")
        if found.__abstractmethods__:
            raise TypeError(f"{point.value} has no method {', '.join(sorted(found.__abstractmethods__))}")
        found.Config()
    except Exception as error:  # a third party's module may raise anything
        return f"can't be used: {type(error).__name__}: {error}"
    return found
