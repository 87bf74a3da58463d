"""Settings of a parameter server's update rule and its treatment of stale gradients. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DEFAULT_COMPENSATION = 0.04


class UpdateRuleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When pushed gradients become an update, and with which weights.

    A gradient's *staleness* τ is the number of updates at its application minus that of the parameters it was
    computed from. Single fields are checked when the table is read; `problems` reports combinations that
    contradict each other.
    """

    rule: Annotated[
        Literal["asynchronous", "synchronous", "softsync", "bounded"],
        Meta(
            description="asynchronous: each gradient is an update; synchronous: one of every worker;"
            " softsync: every workers // softsync_n gradients; bounded: none is staler than max_staleness."
        ),
    ] = "asynchronous"
    backup: Annotated[
        int, Meta(ge=0, description="synchronous: number of slowest workers that an update doesn't wait for.")
    ] = 0
    deal: Annotated[
        Literal["equal", "speed"],
        Meta(
            description="synchronous: every worker's batch has agent.batch_size transitions; or as many of"
            " the workers' sum as it has of their measured speed."
        ),
    ] = "equal"
    wait_at_most_seconds: Annotated[
        Annotated[float, Meta(gt=0.0)] | None,
        Meta(
            description="synchronous: an update is made this long after its first gradient arrived, without"
            " the missing ones; absent: it waits for all."
        ),
    ] = None
    softsync_n: Annotated[
        Annotated[int, Meta(gt=0)] | None,
        Meta(description="softsync makes an update of every workers // softsync_n gradients."),
    ] = None
    max_staleness: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="In updates: the bound of rule = 'bounded', and of stale = 'drop'."),
    ] = None
    stale: Annotated[
        Literal["accept", "scale", "drop", "compensate"],
        Meta(
            description="A gradient of staleness τ: taken as it is, divided by τ, dropped beyond"
            " max_staleness, or corrected for the parameters' change since (DC-ASGD)."
        ),
    ] = "accept"
    compensation: Annotated[
        Annotated[float, Meta(gt=0.0)] | None,
        Meta(description="The λ of compensate: g + λ·g·g·(θ now − θ then). Left out: 0.04."),
    ] = None

    def drops(self, staleness: int) -> bool:
        """Whether a gradient of this staleness is dropped (the filter of Gorila, arXiv 1507.04296)."""
        return self.stale == "drop" and self.max_staleness is not None and staleness > self.max_staleness

    def factor(self, staleness: int) -> float:
        """Factor of a gradient of this staleness, before any averaging (arXiv 1511.05950)."""
        return 1.0 / max(staleness, 1) if self.stale == "scale" else 1.0

    @property
    def compensation_strength(self) -> float:
        """λ of DC-ASGD (arXiv 1609.08326); 0 unless `stale` is compensate."""
        if self.stale != "compensate":
            return 0.0
        return DEFAULT_COMPENSATION if self.compensation is None else self.compensation

    def problems(self, workers: int | None = None) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each setting that contradicts another, or the number of workers."""
        yield from self._rule_problems()
        yield from self._staleness_problems()
        if workers is not None:
            yield from self._worker_problems(workers)

    def _rule_problems(self) -> Iterator[tuple[str, str]]:
        if self.backup and self.rule != "synchronous":
            yield "backup", f"backup workers are for synchronous, and the rule is {self.rule}"
        if self.deal == "speed" and self.rule != "synchronous":
            yield "deal", f"batches are sized by speed if the slowest is waited for; the rule is {self.rule}"
        if self.wait_at_most_seconds is not None and self.rule != "synchronous":
            yield (
                "wait_at_most_seconds",
                f"only synchronous waits for every worker, and the rule is {self.rule}",
            )
        if self.rule == "softsync" and self.softsync_n is None:
            yield "softsync_n", "softsync makes an update of every workers // softsync_n gradients: set it"
        if self.rule != "softsync" and self.softsync_n is not None:
            yield "softsync_n", f"softsync_n is for softsync, and the rule is {self.rule}"

    def _staleness_problems(self) -> Iterator[tuple[str, str]]:
        if self.rule == "synchronous" and self.stale != "accept":
            yield "stale", f"no gradient is ever stale under synchronous: {self.stale} would do nothing"
        elif self.rule == "bounded" and self.stale == "drop":
            yield "stale", "bounded lets no gradient grow stale beyond max_staleness: there is none to drop"
        elif self.max_staleness is None and (self.rule == "bounded" or self.stale == "drop"):
            needs = "the rule bounded" if self.rule == "bounded" else "stale = 'drop'"
            yield "max_staleness", f"{needs} needs the staleness that is still allowed: set it"
        elif self.max_staleness is not None and self.rule != "bounded" and self.stale != "drop":
            yield (
                "max_staleness",
                "it is for the rule bounded and for stale = 'drop';"
                f" the rule is {self.rule}, and stale is {self.stale}",
            )
        if self.compensation is not None and self.stale != "compensate":
            yield "compensation", f"compensation is for stale = 'compensate', and stale is {self.stale}"

    def _worker_problems(self, workers: int) -> Iterator[tuple[str, str]]:
        if self.rule == "synchronous" and self.backup >= workers:
            yield (
                "backup",
                f"with {self.backup} of {workers} workers as backup none is left; at most {workers - 1}",
            )
        if self.rule == "softsync" and self.softsync_n is not None and self.softsync_n > workers:
            yield (
                "softsync_n",
                f"is {self.softsync_n}, but there are {workers} workers; {workers} is the asynchronous rule",
            )
