"""Histograms of what actors observe: of the interval since the last row, and of the whole run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from actorq.actors.histogram import Distribution, Histogram

from .folder import RunFolderError, write_atomically


class Quantiles(msgspec.Struct, frozen=True):
    """For each share, the smallest observed value that at least this share of the values doesn't exceed."""

    p50: float
    p90: float
    p99: float
    max: float


def quantiles_of(distribution: Distribution) -> Quantiles | None:
    """None if there is no finite value."""
    if not distribution.cells:
        return None
    at = distribution.quantile
    return Quantiles(at(0.5), at(0.9), at(0.99), distribution.largest)


class Distributions:
    """Histograms by name, and within the interval by actor too."""

    def __init__(self) -> None:
        self._interval: defaultdict[str, defaultdict[str, Histogram]] = defaultdict(
            lambda: defaultdict(Histogram)
        )
        self._before: defaultdict[str, Histogram] = defaultdict(Histogram)
        """Of the run before the interval."""

    def __contains__(self, name: str) -> bool:
        return name in self._interval

    def observe(self, actor: str, name: str, values: float | NDArray[Any]) -> None:
        self._interval[name][actor].add(values)

    def merge(self, actor: str, name: str, observed: Distribution) -> None:
        self._interval[name][actor].merge(observed)

    def end_interval(self) -> dict[str, dict[str, Distribution]]:
        """The interval's distributions by name and actor, empty ones included; begins the next interval."""
        ended = {
            name: {actor: histogram.take() for actor, histogram in by_actor.items()}
            for name, by_actor in self._interval.items()
        }
        for name, by_actor in ended.items():
            for distribution in by_actor.values():
                self._before[name].merge(distribution)
        return ended

    def of_run(self) -> dict[str, Distribution]:
        """The distributions since the run's start, by name."""
        whole = {}
        for name in {**self._before, **self._interval}:
            parts = [histogram.distribution() for histogram in self._interval.get(name, {}).values()]
            if name in self._before:
                parts.append(self._before[name].distribution())
            whole[name] = merged(parts)
        return whole

    def state(self) -> dict[str, Any]:
        return {
            name: msgspec.to_builtins(distribution, str_keys=True)
            for name, distribution in self.of_run().items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, kept in state.items():
            self._before[name].merge(msgspec.convert(kept, Distribution, str_keys=True))


def merged(parts: Iterable[Distribution]) -> Distribution:
    """The sum of several distributions."""
    histogram = Histogram()
    for part in parts:
        histogram.merge(part)
    return histogram.distribution()


def quantile_fields(name: str, distribution: Distribution) -> dict[str, float]:
    """Fields of a metrics row, such as `staleness_p50`; none for an empty distribution."""
    fields: dict[str, float] = {}
    quantiles = quantiles_of(distribution)
    if quantiles is not None:
        fields = {f"{name}_{key}": value for key, value in msgspec.structs.asdict(quantiles).items()}
    if distribution.not_finite:
        fields[f"{name}_not_finite"] = distribution.not_finite
    return fields


def write_distributions(path: Path, distributions: Mapping[str, Distribution]) -> None:
    """Write histograms.json atomically."""
    write_atomically(path, msgspec.json.encode(distributions) + b"\n")


def read_distributions(path: Path) -> dict[str, Distribution]:
    """Empty if there is no such file. Raises RunFolderError if it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Distribution])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise RunFolderError(f"{path}: can't be read: {error}") from error
