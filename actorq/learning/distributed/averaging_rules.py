"""When learners with parameters of their own meet, and what a meeting makes of their parameters.

A rule is told who learns, who has come and who has left; it answers with who meets next. It knows neither
messages nor clocks. Learners are numbers.
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
    """What came of one."""

    centre: Vector
    """Where it has moved to; a new array."""
    answers: list[Vector]
    """What each learner goes on with; they may be one array."""
    distances: list[float]
    """|θ_i − centre| / |centre| of each learner, as it came."""


class AveragingRule(Protocol):
    """Decides who meets when.

    Tell it what happened, then call `next` until it gives nobody.
    """

    @property
    def learning(self) -> tuple[int, ...]:
        """Who is waited for, in ascending order."""

    def learns(self, learner: int) -> None:
        """The learner makes updates from now on: it will come."""

    def came(self, learner: int) -> None:
        """The learner waits with its parameters; that it learns is clear then."""

    def left(self, learner: int) -> None:
        """The learner died, or makes no updates at present: it isn't there, and nobody waits for it."""

    def next(self) -> tuple[int, ...]:
        """Who meets now, in ascending order: they are no longer waiting. Empty: nobody."""

    def meet(self, centre: Vector, vectors: Sequence[Vector]) -> Synchronization:
        """What the parameters [size] of those who meet make of the centre [size] and of each other."""


def make_averaging_rule(rule: RuleName, elasticity: float | None, learners: int) -> AveragingRule:
    """`elasticity` is for `elastic` alone; None: 0.9 / learners, as in the paper's experiments."""
    return Mean() if rule == "mean" else Elastic(elasticity or 0.9 / learners)


class Mean:
    """All who learn meet at once, and go on from their mean, which is the centre.

    Local SGD with periodic averaging (Stich 2019, arXiv 1805.09767). Who comes first waits for the others.
    """

    def __init__(self) -> None:
        self._learning: set[int] = set()
        self._here: set[int] = set()

    @property
    def learning(self) -> tuple[int, ...]:
        return tuple(sorted(self._learning))

    def learns(self, learner: int) -> None:
        self._learning.add(learner)

    def came(self, learner: int) -> None:
        self._learning.add(learner)
        self._here.add(learner)

    def left(self, learner: int) -> None:
        self._learning.discard(learner)
        self._here.discard(learner)

    def next(self) -> tuple[int, ...]:
        if self._here != self._learning:
            return ()
        meeting, self._here = tuple(sorted(self._here)), set()
        return meeting

    def meet(self, centre: Vector, vectors: Sequence[Vector]) -> Synchronization:
        total = np.zeros(centre.shape)  # in float64: the mean of equals is what they are
        for vector in vectors:
            total += vector
        mean = (total / len(vectors)).astype(centre.dtype)
        return Synchronization(mean, [mean] * len(vectors), [distance(vector, mean) for vector in vectors])


class Elastic:
    """Each learner meets the centre alone, whenever it comes; both move towards each other.

    Asynchronous elastic averaging (EASGD, Zhang, Choromanska & LeCun 2015, arXiv 1412.6651, algorithm 1):
    θ ← θ − a · (θ − c) and c ← c + a · (θ − c), both with θ and c as they were. Nobody waits.
    """

    def __init__(self, elasticity: float) -> None:
        self._elasticity = elasticity
        self._here: list[int] = []

    @property
    def learning(self) -> tuple[int, ...]:
        return ()

    def learns(self, learner: int) -> None:
        pass

    def came(self, learner: int) -> None:
        self.left(learner)
        self._here.append(learner)

    def left(self, learner: int) -> None:
        self._here = [other for other in self._here if other != learner]

    def next(self) -> tuple[int, ...]:
        return (self._here.pop(0),) if self._here else ()

    def meet(self, centre: Vector, vectors: Sequence[Vector]) -> Synchronization:
        (vector,) = vectors
        pull = (self._elasticity * (vector - centre)).astype(centre.dtype)
        return Synchronization(centre + pull, [vector - pull], [distance(vector, centre)])


def distance(vector: Vector, centre: Vector) -> float:
    """|vector − centre| / |centre|, Euclidean; 0 between two zero vectors."""
    return _norm(vector - centre) / max(_norm(centre), 1e-12)


def _norm(vector: Vector) -> float:
    return float(np.sqrt(np.square(vector, dtype=np.float64).sum()))
