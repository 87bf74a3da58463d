"""A front without gradients: it drives an update rule, and holds each round against a naive twin."""

from collections.abc import Callable

from actorq.learning.distributed.update_rule_settings import UpdateRuleSettings
from actorq.learning.distributed.update_rules import Offer, Round, make_update_rule

Ends = tuple[list[Offer], list[Offer]]
"""What `next` should drop, and what it should put into the round; nothing: no round."""


class Front:
    """Numbers the updates, and knows the truth about every worker and every offer that hasn't ended."""

    def __init__(self, settings: UpdateRuleSettings, workers: int) -> None:
        self.settings = settings
        self.workers = range(workers)
        self.rule = make_update_rule(settings, workers)
        self.version = 0
        self.impatient = False
        self.doing = dict.fromkeys(self.workers, "nothing")  # or "computing", "waiting", "idle", "dead"
        self.handed = dict.fromkeys(self.workers, 0)
        self.open: list[Offer] = []  # in the order of arrival
        self.rounds: list[tuple[int, Round]] = []
        self.dropped: list[tuple[Offer, str]] = []

    def step(self, worker: int) -> None:
        """The worker goes on: begins a gradient or offers it; it may be dead or idle, and begins again."""
        if self.doing[worker] == "computing":
            self.offer(worker)
        elif self.doing[worker] != "waiting":
            self.compute(worker)

    def compute(self, worker: int) -> None:
        """Takes the newest version. Of a worker that waits: it died and came back, and nobody noticed."""
        self.doing[worker], self.handed[worker] = "computing", self.version
        self.rule.computing(worker, self.version)

    def offer(self, worker: int) -> None:
        if self.rule.waits:
            self.withdraw(worker)
        self.doing[worker] = "waiting" if self.rule.waits else "nothing"
        self.open.append(Offer(worker, self.handed[worker], rows=worker + 1))
        self.rule.offered(self.open[-1])

    def idle(self, worker: int) -> None:
        if self.doing[worker] != "waiting":
            self.doing[worker] = "idle"
            self.rule.idle(worker)

    def leave(self, worker: int) -> None:
        self.withdraw(worker)
        self.doing[worker] = "dead"
        self.rule.left(worker)

    def wait_no_longer(self, worker: int) -> None:
        """Whoever is missing."""
        self.impatient = True
        self.rule.wait_no_longer()

    def withdraw(self, worker: int) -> None:
        self.open = [offer for offer in self.open if offer.worker != worker]

    def drain(self, expected: Callable[["Front"], Ends] | None = None) -> None:
        """Apply every round that the rule gives, each compared with the twin's."""
        while True:
            ends = None if expected is None else expected(self)
            round_ = self.rule.next(self.version)
            self.impatient = False
            dropped = self.rule.take_dropped()
            if ends is not None:
                offers = [] if round_ is None else list(round_.offers)
                assert ([offer for offer, _ in dropped], offers) == ends
            for offer, _ in dropped:
                self.end(offer)
            self.dropped += dropped
            if round_ is None:
                return
            for offer in round_.offers:
                self.end(offer)
            self.rounds.append((self.version, round_))
            self.version += 1

    def end(self, offer: Offer) -> None:
        self.open.remove(offer)  # raises if it never was, or ended before
        if self.doing[offer.worker] == "waiting":
            self.doing[offer.worker] = "nothing"

    def stalenesses(self) -> list[int]:
        return [version - offer.updates for version, round_ in self.rounds for offer in round_.offers]

    def active(self) -> list[int]:
        """Who is going to offer gradients; before the first synchronous update the idle ones too."""
        inactive = {"dead"} if is_synchronous(self.settings) and not self.rounds else {"dead", "idle"}
        return [worker for worker in self.workers if self.doing[worker] not in inactive]


def is_synchronous(settings: UpdateRuleSettings) -> bool:
    return settings.rule == "synchronous" or (settings.rule, settings.max_staleness) == ("bounded", 0)


def softsync_twin(front: Front) -> Ends:
    settings = front.settings
    dropped = [offer for offer in front.open if settings.drops(front.version - offer.updates)]
    fresh = [offer for offer in front.open if offer not in dropped]
    members = sum(doing != "dead" for doing in front.doing.values())
    size = 1 if settings.softsync_n is None else max(1, members // settings.softsync_n)
    return dropped, fresh[:size] if len(fresh) >= size else []


def synchronous_twin(front: Front) -> Ends:
    dropped = [offer for offer in front.open if offer.updates < front.version]
    fresh = [offer for offer in front.open if offer.updates == front.version]
    awaited = set(front.active()) | {offer.worker for offer in fresh}
    size = max(1, len(awaited) - front.settings.backup)
    if front.impatient and 0 < len(fresh) < size:
        size = len(fresh)
    return dropped, fresh[:size] if len(fresh) >= size else []


def bounded_twin(front: Front) -> Ends:
    due = front.version - (front.settings.max_staleness or 0)
    if any(front.doing[worker] == "computing" and front.handed[worker] == due for worker in front.workers):
        return [], []
    return [], [offer for offer in front.open if offer.updates == due] or front.open[:1]


def twin(settings: UpdateRuleSettings) -> Callable[[Front], Ends]:
    if is_synchronous(settings):
        return synchronous_twin
    return bounded_twin if settings.rule == "bounded" else softsync_twin
