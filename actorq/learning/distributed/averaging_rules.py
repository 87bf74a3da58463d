"""Averaging rules: when learners with parameters of their own synchronize, and the result.

A rule is notified of learners that are active, have arrived or have left; it returns those that synchronize
next. It knows neither messages nor clocks. Learners are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

RuleName = Literal["mean", "elastic"]
Elasticity = Annotated[float, Meta(gt=0, le=1)]

Vector = NDArray[Any]


class Synchronization(NamedTuple):
    """Result of a synchronization."""

    center: Vector
    """The new center; a new array."""
    answers: list[Vector]
    """The parameters with which each learner continues; they may be one array."""
    distances: list[float]
    """|θ_i − center| / |center| of each learner, with its parameters as it arrived."""


class AveragingRule(Protocol):
    """Decides which learners synchronize when.

    Notify it of each event, then call `next` until it returns no learner.
    """

    @property
    def learning(self) -> tuple[int, ...]:
        """The learners that are waited for, in ascending order."""

    def learns(self, learner: int) -> None:
        """The learner makes updates from now on, and will arrive."""

    def arrived(self, learner: int) -> None:
        """The learner waits with its parameters; it counts as active."""

    def left(self, learner: int) -> None:
        """The learner died, or makes no updates at present: it is no longer waited for."""

    def next(self) -> tuple[int, ...]:
        """The learners that synchronize now, in ascending order; they are no longer waiting. Empty: none."""

    def synchronize(self, center: Vector, vectors: Sequence[Vector]) -> Synchronization:
        """Synchronize: the results of the learners' parameters [size] and the center [size]."""


def make_averaging_rule(rule: RuleName, elasticity: float | None, learners: int) -> AveragingRule:
    """`elasticity` is for `elastic` alone; None: 0.9 / learners, as in the paper's experiments."""
    return Mean() if rule == "mean" else Elastic(elasticity or 0.9 / learners)


class Mean:
    """All active learners synchronize at once, and continue from their mean, the center.

    Local SGD with periodic averaging (Stich 2019, arXiv 1805.09767). Early learners wait for the others.
    """

    def __init__(self) -> None:
        self._learning: set[int] = set()
        self._arrived: set[int] = set()

    @property
    def learning(self) -> tuple[int, ...]:
        return tuple(sorted(self._learning))

    def learns(self, learner: int) -> None:
        self._learning.add(learner)

    def arrived(self, learner: int) -> None:
        self._learning.add(learner)
        self._arrived.add(learner)

    def left(self, learner: int) -> None:
        self._learning.discard(learner)
        self._arrived.discard(learner)

    def next(self) -> tuple[int, ...]:
        if self._arrived != self._learning:
            return ()
        synchronizing, self._arrived = tuple(sorted(self._arrived)), set()
        return synchronizing

    def synchronize(self, center: Vector, vectors: Sequence[Vector]) -> Synchronization:
        total = np.zeros(center.shape)  # in float64: the mean of equals is what they are
        for vector in vectors:
            total += vector
        mean = (total / len(vectors)).astype(center.dtype)
        return Synchronization(mean, [mean] * len(vectors), [distance(vector, mean) for vector in vectors])


class Elastic:
    """Each learner synchronizes with the center alone, whenever it arrives; both move towards each other.

    Asynchronous elastic averaging (EASGD, Zhang, Choromanska & LeCun 2015, arXiv 1412.6651, algorithm 1): θ ←
    θ − a · (θ − c) and c ← c + a · (θ − c), both with the previous θ and c. No learner waits for another.
    """

    def __init__(self, elasticity: float) -> None:
        self._elasticity = elasticity
        self._arrived: list[int] = []

    @property
    def learning(self) -> tuple[int, ...]:
        return ()

    def learns(self, learner: int) -> None:
        pass

    def arrived(self, learner: int) -> None:
        self.left(learner)
        self._arrived.append(learner)

    def left(self, learner: int) -> None:
        self._arrived = [other for other in self._arrived if other != learner]

    def next(self) -> tuple[int, ...]:
        return (self._arrived.pop(0),) if self._arrived else ()

    def synchronize(self, center: Vector, vectors: Sequence[Vector]) -> Synchronization:
        (vector,) = vectors
        pull = (self._elasticity * (vector - center)).astype(center.dtype)
        return Synchronization(center + pull, [vector - pull], [distance(vector, center)])


def distance(vector: Vector, center: Vector) -> float:
    """|vector − center| / |center|, Euclidean; 0 between two zero vectors."""
    return _norm(vector - center) / max(_norm(center), 1e-12)


def _norm(vector: Vector) -> float:
    return float(np.sqrt(np.square(vector, dtype=np.float64).sum()))
