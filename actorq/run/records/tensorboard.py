"""TensorBoard event files, written by the tensorboard package's own record writer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actorq.actors.histogram import Distribution
from actorq.run.report.bins import bins_of

from .recorder import Entry

FLUSH_SECONDS = 10.0
MOST_BINS = 60


class TensorBoard:
    """Scalars, and histograms as `distributions/<name>`, by environment steps.

    Rows wait for FLUSH_SECONDS or the end.

    Importing tensorboard takes 0.2 s of processor time, which would delay a starting
    run: it is imported at the first flush. Its RecordWriter is used and not its EventFileWriter, which would
    import TensorFlow wherever that is installed.
    """

    def __init__(self, folder: Path, resumed: bool = False) -> None:
        """`resumed`: new rows supersede those in the folder from the first new step on."""
        self._folder = folder
        self._resumed = resumed
        self._writer: Any = None
        self._waiting: list[tuple[float, Entry]] = []
        self._flushed_at = time.monotonic()

    def add(self, entries: Iterable[Entry]) -> None:
        """Queue rows; write the queue every FLUSH_SECONDS."""
        now = time.time()
        self._waiting += [(now, entry) for entry in entries]
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the queued rows."""
        self._flushed_at = time.monotonic()
        if not self._waiting:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            self._open(int(self._waiting[0][1].row.get("env_steps", 0)))
        for when, (row, distributions) in self._waiting:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
            values += [
                Summary.Value(tag=f"distributions/{name}", histo=_histogram(distribution))
                for name, distribution in distributions.items()
                if distribution.cells
            ]
            step = int(row.get("env_steps", 0))
            event = Event(wall_time=when, step=step, summary=Summary(value=values))
            self._writer.write(event.SerializeToString())
        self._waiting.clear()
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((self._folder / name).open("xb"))
        self._writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        if self._resumed:
            start = SessionLog(status=SessionLog.START)
            self._writer.write(Event(wall_time=now, step=step, session_log=start).SerializeToString())


def _histogram(distribution: Distribution) -> Any:
    """A HistogramProto, whose buckets have no gaps. Its min and max are the outer bins' edges, which is what
    TensorBoard takes them for: with the values' own min and max a bucket could have no width.
    """
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    bins = bins_of(distribution, MOST_BINS).bins
    return HistogramProto(
        min=bins[0].low,
        max=bins[-1].high,
        num=distribution.count,
        sum=distribution.total,
        sum_squares=distribution.sum_of_squares,
        bucket_limit=[*(after.low for after in bins[1:]), bins[-1].high],
        bucket=[each.count for each in bins],
    )
