"""summary.json: the stable names and their values."""

from pathlib import Path

import msgspec
import pytest

from actorq.actors.statistics import ActorStatistics, ChannelStatistics, MailboxStatistics, SystemStatistics
from actorq.run.records.distributions import Quantiles
from actorq.run.records.folder import RunFolderError
from actorq.run.records.recorder import Recorder
from actorq.run.records.summary import ActorSummary, Summary, read_summary, summarize, write_summary
from actorq.topology import Stop

STABLE = (
    "name, seed, stopped_by, solved, env_steps, updates, episodes, wall_seconds, env_steps_per_second, "
    "updates_per_second, evaluation_return_mean, evaluation_return_std, evaluation_episodes, tasks, "
    "restarts, dead_letters, staleness, actors"
)


def ended() -> tuple[Recorder, SystemStatistics]:
    recorder = Recorder(Stop(), False, lambda reason: None, lambda: 4.0)
    recorder.count("explorer", "env_steps", 1000)
    recorder.count("learner", "updates", 200)
    recorder.count("explorer", "episodes", 10)
    for name, value in [("return_mean", 480.0), ("return_std", 5.0), ("episodes", 20)]:
        recorder.gauge("evaluator", f"evaluation_{name}", value)
    recorder.gauge("evaluator", "solved", 1.0)
    for staleness in range(101):
        recorder.gauge("replay", "staleness", staleness)
    mailbox = MailboxStatistics(unread=1, unread_bytes=8, in_progress=0, handled=30, refused=2)
    channels = tuple(
        ChannelStatistics(name, sent, sent, 0, 0, 0, 0, 0) for name, sent in [("a", 5), ("b", 6)]
    )
    learner = ActorStatistics("learner", "main", True, 1, 1, mailbox, channels)
    return recorder, SystemStatistics((learner,), undelivered=2, in_doubt=1)


def test_a_run_that_has_ended(tmp_path: Path) -> None:
    summary = summarize("demo", 3, "solved", *ended())
    assert summary == Summary(
        name="demo",
        seed=3,
        stopped_by="solved",
        solved=True,
        env_steps=1000,
        updates=200,
        episodes=10,
        wall_seconds=4.0,
        env_steps_per_second=250.0,
        updates_per_second=50.0,
        evaluation_return_mean=480.0,
        evaluation_return_std=5.0,
        evaluation_episodes=20,
        restarts=1,
        dead_letters=3,
        staleness=Quantiles(p50=50, p90=90, p99=99, max=100),
        actors={"learner": ActorSummary(messages_in=32, messages_out=11, restarts=1)},
    )
    path = tmp_path / "summary.json"
    write_summary(path, summary)
    assert read_summary(path) == summary
    assert ", ".join(msgspec.json.decode(path.read_bytes())) == STABLE


def test_a_run_in_which_nothing_happened() -> None:
    recorder = Recorder(Stop(), False, lambda reason: None, lambda: 0.0)
    summary = summarize("demo", 0, "request", recorder, SystemStatistics((), 0, 0))
    assert (summary.evaluation_return_mean, summary.evaluation_episodes, summary.staleness) == (None, 0, None)
    assert (summary.env_steps, summary.env_steps_per_second) == (0, 0.0)


def test_a_missing_or_broken_summary_is_named(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(RunFolderError, match=r"summary.json: can't be read: "):
        read_summary(path)
    path.write_text('{"name": 3}')
    with pytest.raises(RunFolderError, match=r"can't be read: Expected `str`, got `int` - at `\$.name`"):
        read_summary(path)
