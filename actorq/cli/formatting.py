"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from actorq.run.formatting import size
from actorq.run.records.recorder import Progress
from actorq.topology import Need

_FATES = ("accepted", "scaled", "late", "stale", "refused", "outlying")


def counted(count: int, what: str) -> str:
    """Such as "1 actor" or "1,200 actors"."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def rate(per_second: float) -> str:
    """Such as "4,050/s" or "2.5/s"."""
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.1f}/s"


def figure(value: float) -> str:
    """A reading of any size in a few characters: "18,417", "107.2", "0.77", "3.1e-05"."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.01 or size == 0:
        return f"{value:.2f}"
    return f"{value:.1e}"


def clock(seconds: float) -> str:
    """Such as "0:42" or "1:02:05"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def gradients(counts: Mapping[str, int]) -> str:
    """What became of gradients: "1,234 accepted, 12 stale"; "" if nobody counts any."""
    told = [(delivery_state, counts.get(f"gradients_{delivery_state}", 0)) for delivery_state in _FATES]
    return ", ".join(f"{count:,} {delivery_state}" for delivery_state, count in told if count)


def task_returns(progress: Progress) -> dict[str, float]:
    """Explorers' mean episode return by task; {} where there is only one."""
    prefix = "episode_return/"
    gauges = progress.gauges.items()
    return {name.removeprefix(prefix): value for name, value in gauges if name.startswith(prefix)}


def memory_in_words(needs: Sequence[Need]) -> Iterator[str]:
    """A line for each need, and their sum; nothing if there is none."""
    if not needs:
        return
    names = [need.actor if need.count == 1 else f"{need.actor} × {need.count}" for need in needs]
    yield "memory, once full:"
    for name, need in zip(names, needs, strict=True):
        each = " each" if need.count > 1 else ""
        yield f"  {name:{max(map(len, names))}}  {need.what}: {size(need.bytes)}{each}"
    if len(needs) > 1 or needs[0].count > 1:
        yield f"  {size(sum(need.count * need.bytes for need in needs))} in all"
