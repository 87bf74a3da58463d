"""What came of a run, in a few lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from actorq.run.formatting import duration
from actorq.run.records.folder import RunFolder
from actorq.run.records.summary import Summary

from .formatting import counted, figure, rate

_ENDS = {
    "request": "stopped on request",
    "interrupt": "interrupted",
    "failure": "failed",
    "finished": "finished",
}


def outcome(summary: Summary, folder: RunFolder) -> str:
    """For people, where `--json` prints the summary itself."""
    took = duration(summary.wall_seconds)
    lines = [f"{summary.name}, seed {summary.seed}: {how_it_ended(summary)} after {took}"]
    if summary.evaluation_return_mean is not None:
        mean, std = summary.evaluation_return_mean, summary.evaluation_return_std or 0.0
        episodes = counted(summary.evaluation_episodes, "greedy episode")
        lines.append(f"  return {figure(mean)} ± {figure(std)} in {episodes}")
    for name, its in summary.tasks.items():
        lines.append(f"    {name}: {figure(its.return_mean)} ± {figure(its.return_std)}")
    for count, what, per_second in (
        (summary.env_steps, "environment steps", summary.env_steps_per_second),
        (summary.updates, "updates", summary.updates_per_second),
    ):
        if count:
            lines.append(f"  {count:,} {what} ({rate(per_second)})")
    if summary.restarts or summary.dead_letters:
        lines.append(
            f"  {counted(summary.restarts, 'restart')}, {counted(summary.dead_letters, 'dead letter')}"
        )
    lines.append(f"  {folder.path}")
    lines += _what_next(summary, folder)
    return "\n".join(lines) + "\n"


def _what_next(summary: Summary, folder: RunFolder) -> Iterator[str]:
    """Commands that the run's checkpoint is good for, if it left one."""
    if not folder.checkpoints.is_dir():
        return
    where = shlex.quote(str(folder.path))
    if summary.stopped_by in ("interrupt", "request", "failure"):
        yield f"  go on with it:  actorq run --resume {where}"
    if summary.evaluation_episodes:  # then whoever evaluated has kept what did best
        yield f"  see it play:    actorq eval {where}"


def how_it_ended(summary: Summary) -> str:
    """Such as "solved", "interrupted" or "reached env_steps"."""
    return "solved" if summary.solved else _ENDS.get(summary.stopped_by, f"reached {summary.stopped_by}")
