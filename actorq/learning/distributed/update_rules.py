"""Update rules: when pushed gradients become an update of the parameters, and with which weights.

A rule is notified of workers that compute, offer a gradient, or die; it returns the next round. It knows
neither gradients nor clocks, and has no state that must survive a restart: the coordinator creates a new one
then.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple, Protocol

from .update_rule_settings import UpdateRuleSettings


class Offer(NamedTuple):
    """A gradient waiting to be applied."""

    worker: int
    updates: int
    """Updates of the parameters it was computed from."""
    rows: int = 1
    """Transitions that it is the mean over: its weight in a mean of several."""


class Round(NamedTuple):
    """One update: the optimizer steps once, along Σ factor·gradient."""

    offers: tuple[Offer, ...]
    factors: tuple[float, ...]
    compensation: float = 0.0
    """λ: each g is replaced by g + λ·g·g·(θ now − θ it was computed from), elementwise; 0: unchanged."""


class UpdateRule(Protocol):
    """Decides the rounds of `workers` workers, numbered from 0, all of which are members from the start.

    Notify it of each event, then call `next` until it returns None: after an offer, and after a worker became
    idle or left, since the others may have waited for that one. An offer ends exactly once: in a round, among
    the dropped, or, silently, when its worker leaves. Equal offers end in the order of their arrival. The
    caller refuses offers of future versions.
    """

    waits: bool
    """Whether a push is answered when its gradient is applied or dropped; otherwise at once, when offered.

    If so a worker has at most one waiting offer, and a second one silently replaces the first.
    """

    def computing(self, worker: int, updates: int) -> None:
        """The worker received this version, and will offer a gradient of it.

        Call it together with the choice of the version, before the next call of `next`.
        """

    def idle(self, worker: int) -> None:
        """The worker computes no gradient at present, such as while its replay fills: it is not waited
        for.
        """

    def left(self, worker: int) -> None:
        """The worker died: its offers are withdrawn. Any later event of it makes it a member again."""

    def offered(self, offer: Offer) -> None:
        """A gradient has arrived."""

    def wait_no_longer(self) -> None:
        """Make the round in progress of the waiting offers, if there are any."""

    def next(self, version: int) -> Round | None:
        """The round to be applied after `version` updates; it leads to version + 1."""

    def take_dropped(self) -> list[tuple[Offer, str]]:
        """The offers that `next` dropped since the last call, each with the reason: "late" or "stale"."""


def make_update_rule(settings: UpdateRuleSettings, workers: int) -> UpdateRule:
    """The rule of valid `settings` for this number of workers."""
    if settings.rule == "synchronous":
        return Synchronous(settings, workers)
    if settings.rule == "bounded":
        if settings.max_staleness:
            return Bounded(settings, bound=settings.max_staleness)
        return Synchronous(settings, workers)  # no gradient may be stale: an update takes them all
    # With N workers, N-softsync makes an update of every single gradient: the asynchronous rule.
    return Softsync(settings, workers, n=settings.softsync_n or workers)


class _Rule:
    """Common parts of the rules: a round's weights, and the list of dropped offers."""

    def __init__(self, settings: UpdateRuleSettings) -> None:
        self._settings = settings
        self._dropped: list[tuple[Offer, str]] = []

    def take_dropped(self) -> list[tuple[Offer, str]]:
        dropped, self._dropped = self._dropped, []
        return dropped

    def wait_no_longer(self) -> None:
        """No effect: only `Synchronous` has a timeout; the others wait for no worker, or to keep their
        bound.
        """

    def _round(self, version: int, offers: tuple[Offer, ...]) -> Round:
        """The mean over all rows of all offers, each with the factor of its staleness."""
        stalenesses = [version - offer.updates for offer in offers]
        rows = sum(offer.rows for offer in offers)
        factors = tuple(
            self._settings.factor(staleness) * offer.rows / rows
            for offer, staleness in zip(offers, stalenesses, strict=True)
        )
        # Fresh gradients need no compensation, which saves the shards the arithmetic.
        return Round(offers, factors, self._settings.compensation_strength if any(stalenesses) else 0.0)


class Softsync(_Rule):
    """An update of every ⌊members/n⌋ gradients, of any workers (Zhang et al., arXiv 1511.05950).

    No worker ever waits, so the staleness is about n on average. One worker may have several gradients in a
    round: otherwise the slowest would set the pace.
    """

    waits = False

    def __init__(self, settings: UpdateRuleSettings, workers: int, n: int) -> None:
        super().__init__(settings)
        self._n = n
        self._members = set(range(workers))
        self._waiting: deque[Offer] = deque()  # in the order of arrival

    def computing(self, worker: int, updates: int) -> None:
        self._members.add(worker)

    def idle(self, worker: int) -> None:
        self._members.add(worker)

    def left(self, worker: int) -> None:
        self._members.discard(worker)
        self._waiting = deque(offer for offer in self._waiting if offer.worker != worker)

    def offered(self, offer: Offer) -> None:
        self._members.add(offer.worker)
        self._waiting.append(offer)

    def next(self, version: int) -> Round | None:
        self._drop_stale(version)
        size = max(1, len(self._members) // self._n)
        if len(self._waiting) < size:
            return None
        return self._round(version, tuple(self._waiting.popleft() for _ in range(size)))

    def _drop_stale(self, version: int) -> None:
        fresh: deque[Offer] = deque()
        for offer in self._waiting:
            if self._settings.drops(version - offer.updates):
                self._dropped.append((offer, "stale"))
            else:
                fresh.append(offer)
        self._waiting = fresh


class Synchronous(_Rule):
    """An update of one gradient of every member, all of the current version.

    With `backup` = b the first (members − b) make it, and later ones are dropped as late (Chen et al., arXiv
    1604.00981), as are those after the straggler timeout. The first update waits for every worker, idle ones
    too, since they are about to begin. From then on idle ones are not waited for.
    """

    waits = True

    def __init__(self, settings: UpdateRuleSettings, workers: int) -> None:
        super().__init__(settings)
        self._members = set(range(workers))
        self._idle: set[int] = set()
        self._waiting: dict[int, Offer] = {}  # by worker, in the order of arrival
        self._begun = False
        self._impatient = False

    def computing(self, worker: int, updates: int) -> None:
        self._members.add(worker)
        self._idle.discard(worker)

    def idle(self, worker: int) -> None:
        self._members.add(worker)
        self._idle.add(worker)

    def left(self, worker: int) -> None:
        self._members.discard(worker)
        self._waiting.pop(worker, None)

    def offered(self, offer: Offer) -> None:
        self.computing(offer.worker, offer.updates)
        self._waiting.pop(offer.worker, None)  # replaced: the new one is last
        self._waiting[offer.worker] = offer

    def wait_no_longer(self) -> None:
        self._impatient = True

    def next(self, version: int) -> Round | None:
        self._drop_late(version)
        awaited = self._members - self._idle if self._begun else self._members
        size = max(1, len(awaited | self._waiting.keys()) - self._settings.backup)
        if self._impatient:
            size = min(size, max(1, len(self._waiting)))
        self._impatient = False
        if len(self._waiting) < size:
            return None
        self._begun = True
        offers = tuple(islice(self._waiting.values(), size))
        for offer in offers:
            del self._waiting[offer.worker]
        return self._round(version, offers)

    def _drop_late(self, version: int) -> None:
        for offer in [offer for offer in self._waiting.values() if offer.updates < version]:
            del self._waiting[offer.worker]
            self._dropped.append((offer, "late"))


class Bounded(_Rule):
    """No gradient is ever staler than `bound` = s ≥ 1 updates.

    A gradient of version u must go into the update that leads from version u + s to u + s + 1 at the latest.
    While a worker still computes such a gradient, the others wait; the gradients that are due together make
    one update, their mean. While none is due, each is an update by itself, the oldest first. So it waits only
    for workers that compute, and continues as soon as those offer, become idle or leave. In the spirit of
    stale-synchronous parallel (Ho et al., NIPS 2013), which bounds clocks instead.
    """

    waits = True

    def __init__(self, settings: UpdateRuleSettings, bound: int) -> None:
        super().__init__(settings)
        self._bound = bound
        self._computing: dict[int, int] = {}  # worker -> version
        self._waiting: dict[int, Offer] = {}  # by worker, in the order of arrival

    def computing(self, worker: int, updates: int) -> None:
        self._computing[worker] = updates

    def idle(self, worker: int) -> None:
        self._computing.pop(worker, None)

    def left(self, worker: int) -> None:
        self._computing.pop(worker, None)
        self._waiting.pop(worker, None)

    def offered(self, offer: Offer) -> None:
        self._computing.pop(offer.worker, None)
        self._waiting.pop(offer.worker, None)  # replaced: the new one is last
        self._waiting[offer.worker] = offer

    def next(self, version: int) -> Round | None:
        self._drop_stale(version)
        due = version - self._bound  # gradients of this version can't wait for another update
        if due in self._computing.values():
            return None
        offers = tuple(offer for offer in self._waiting.values() if offer.updates == due)
        offers = offers or tuple(islice(self._waiting.values(), 1))
        if not offers:
            return None
        for offer in offers:
            del self._waiting[offer.worker]
        return self._round(version, offers)

    def _drop_stale(self, version: int) -> None:
        """Drop gradients of versions that should not have been read any more; the rule itself makes none."""
        for offer in [offer for offer in self._waiting.values() if version - offer.updates > self._bound]:
            del self._waiting[offer.worker]
            self._dropped.append((offer, "stale"))
