"""summary.json: the result of a run, under stable names."""

from __future__ import annotations

from pathlib import Path

import msgspec

from actorq.actors.statistics import SystemStatistics

from .distributions import Quantiles, quantiles_of
from .folder import RunFolderError, write_atomically
from .recorder import LIMITED, Evaluation, Recorder


class ActorSummary(msgspec.Struct, frozen=True):
    """One actor's totals."""

    messages_in: int
    """Messages handled or refused."""
    messages_out: int
    restarts: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. These names and meanings are stable."""

    name: str
    seed: int
    stopped_by: str
    """The limit of [stop] that was reached, or "request", "interrupt", "failure", "finished"."""
    solved: bool
    """Whether the greedy policy reached the declared return, confirmed on fresh seeds."""
    env_steps: int
    updates: int
    episodes: int
    wall_seconds: float
    """Since the command's start."""
    env_steps_per_second: float
    """Over `wall_seconds`."""
    updates_per_second: float
    evaluation_return_mean: float | None
    """Of the latest evaluation; null if there was none. Of several tasks, all episodes together."""
    evaluation_return_std: float | None
    evaluation_episodes: int
    tasks: dict[str, Evaluation] = {}
    """With several tasks, the latest evaluation of each, by name; else empty."""
    restarts: int
    dead_letters: int
    staleness: Quantiles | None
    """Of gradients, or where none are pushed of explorers' weights, in updates; null if there was none."""
    actors: dict[str, ActorSummary]


def summarize(
    name: str, seed: int, stopped_by: str, recorder: Recorder, statistics: SystemStatistics
) -> Summary:
    """The summary of a run that has ended."""
    env_steps, updates, episodes = (recorder.counts.get(name, 0) for name in LIMITED)
    seconds = recorder.wall_seconds
    evaluation = recorder.evaluation
    observed = recorder.distributions()
    staleness = observed.get("staleness", observed.get("weights_staleness"))
    return Summary(
        name=name,
        seed=seed,
        stopped_by=stopped_by,
        solved=recorder.solved,
        env_steps=env_steps,
        updates=updates,
        episodes=episodes,
        wall_seconds=seconds,
        env_steps_per_second=env_steps / seconds if seconds else 0.0,
        updates_per_second=updates / seconds if seconds else 0.0,
        evaluation_return_mean=evaluation.return_mean if evaluation else None,
        evaluation_return_std=evaluation.return_std if evaluation else None,
        evaluation_episodes=evaluation.episodes if evaluation else 0,
        tasks=recorder.task_evaluations,
        restarts=statistics.restarts,
        dead_letters=statistics.dead_letters,
        staleness=quantiles_of(staleness) if staleness is not None else None,
        actors={
            actor.name: ActorSummary(
                messages_in=actor.mailbox.handled + actor.mailbox.refused,
                messages_out=actor.messages_out,
                restarts=actor.restarts,
            )
            for actor in statistics.actors
        },
    )


def write_summary(path: Path, summary: Summary) -> None:
    """Write summary.json atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def read_summary(path: Path) -> Summary:
    """Raises RunFolderError if there is none or it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunFolderError(f"{path}: can't be read: {error}") from error
