"""Text printed at a run's end: its result, and the commands to continue with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from actorq.run.formatting import duration
from actorq.run.records.folder import RunFolder
from actorq.run.records.summary import Summary

from .formatting import counted, figure, rate

_HOW_ENDED = {
    "request": "stopped on request",
    "interrupt": "interrupted",
    "failure": "failed",
    "finished": "finished",
}


def exit_report(summary: Summary, folder: RunFolder) -> str:
    """A few lines for people; `--json` prints the summary itself instead."""
    took = duration(summary.wall_seconds)
    lines = [f"{summary.name}, seed {summary.seed}: {how_it_ended(summary)} after {took}"]
    if summary.evaluation_return_mean is not None:
        mean, std = summary.evaluation_return_mean, summary.evaluation_return_std or 0.0
        episodes = counted(summary.evaluation_episodes, "greedy episode")
        lines.append(f"  return {figure(mean)} ± {figure(std)} in {episodes}")
    for name, task in summary.tasks.items():
        lines.append(f"    {name}: {figure(task.return_mean)} ± {figure(task.return_std)}")
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
    lines += _next_commands(summary, folder)
    return "\n".join(lines) + "\n"


def _next_commands(summary: Summary, folder: RunFolder) -> Iterator[str]:
    """Commands that use the run's checkpoint, if there is one."""
    if not folder.checkpoints.is_dir():
        return
    where = shlex.quote(str(folder.path))
    if summary.stopped_by in ("interrupt", "request", "failure"):
        yield f"  continue:       actorq run --resume {where}"
    if summary.evaluation_episodes:  # an evaluator keeps the best parameters
        yield f"  evaluate:       actorq eval {where}"


def how_it_ended(summary: Summary) -> str:
    """Such as "solved", "interrupted" or "reached env_steps"."""
    return "solved" if summary.solved else _HOW_ENDED.get(summary.stopped_by, f"reached {summary.stopped_by}")
