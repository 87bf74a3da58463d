"""What came of a run, in a few lines."""

from __future__ import annotations

from pathlib import Path

from actorq.run.summary import Summary

from .words import counted, duration, rate

_ENDS = {
    "request": "stopped on request",
    "interrupt": "interrupted",
    "failure": "failed",
    "finished": "finished",
}


def outcome(summary: Summary, folder: Path) -> str:
    """For people, where `--json` prints the summary itself."""
    lines = [f"{summary.name}, seed {summary.seed}: {_end(summary)} after {duration(summary.wall_seconds)}"]
    if summary.evaluation_return_mean is not None:
        spread = (
            f" ± {summary.evaluation_return_std:.1f}" if summary.evaluation_return_std is not None else ""
        )
        episodes = counted(summary.evaluation_episodes, "episode")
        lines.append(f"  evaluation   {summary.evaluation_return_mean:.1f}{spread}, mean of {episodes}")
    for count, what, per_second in (
        (summary.env_steps, "environment steps", summary.env_steps_per_second),
        (summary.updates, "updates", summary.updates_per_second),
    ):
        if count:
            lines.append(f"  {count:,} {what} ({rate(per_second)})")
    if summary.restarts or summary.dead_letters:
        lines.append(f"  {summary.restarts:,} restarts, {summary.dead_letters:,} dead letters")
    lines.append(f"  {folder}")
    return "\n".join(lines) + "\n"


def _end(summary: Summary) -> str:
    return "solved" if summary.solved else _ENDS.get(summary.stopped_by, f"reached {summary.stopped_by}")
