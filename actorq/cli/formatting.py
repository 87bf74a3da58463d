"""Counts, rates, readings and times as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from actorq.run.formatting import duration, size
from actorq.run.records.recorder import Progress
from actorq.topology import Need

_GRADIENT_OUTCOMES = ("accepted", "scaled", "late", "stale", "refused", "outlying")


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
    """Gradients by outcome at the parameter server: "1,234 accepted, 12 stale"; "" without any."""
    found = [(outcome, counts.get(f"gradients_{outcome}", 0)) for outcome in _GRADIENT_OUTCOMES]
    return ", ".join(f"{count:,} {outcome}" for outcome, count in found if count)


def task_returns(progress: Progress) -> dict[str, float]:
    """Explorers' mean episode return by task; {} for a single task."""
    prefix = "episode_return/"
    gauges = progress.gauges.items()
    return {name.removeprefix(prefix): value for name, value in gauges if name.startswith(prefix)}


def progress_line(progress: Progress) -> str:
    """One log line: elapsed time, counts with their rates, the most important readings."""
    words = [duration(progress.wall_seconds)]
    for name, what in (("env_steps", "env steps"), ("updates", "updates")):
        if name in progress.counts:
            words.append(f"{what} {progress.counts[name]:,} ({rate(progress.rates.get(name, 0.0))})")
    if outcomes := gradients(progress.counts):
        words.append(f"gradients {outcomes}")
    if returns := task_returns(progress):
        words.append("return " + ", ".join(f"{task} {figure(value)}" for task, value in returns.items()))
    elif "episode_return" in progress.gauges:
        words.append(f"return {figure(progress.gauges['episode_return'])}")
    if "loss" in progress.gauges:
        words.append(f"loss {figure(progress.gauges['loss'])}")
    if progress.tasks:
        evaluated = (f"{name} {figure(task.return_mean)}" for name, task in progress.tasks.items())
        words.append("evaluation " + ", ".join(evaluated))
    elif progress.evaluation is not None:
        evaluation = progress.evaluation
        words.append(f"evaluation {figure(evaluation.return_mean)} ± {figure(evaluation.return_std)}")
    return "  ".join(words)


def memory_lines(needs: Sequence[Need]) -> Iterator[str]:
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
