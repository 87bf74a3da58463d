"""Rows of metrics on their way to disk, by a thread: a slow disk never holds up the run's loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

import msgspec

from actorq.actors.histogram import Distribution

from .folder import RunFolder, write_whole
from .recorder import Entry, Row
from .tensorboard import TensorBoard

log = logging.getLogger("actorq.run")


class Sink(Protocol):
    """Where rows go. Called by one thread."""

    def add(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class LineWriter:
    """metrics.jsonl: each row a line of JSON, in the file at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def add(self, entries: Sequence[Entry]) -> None:
        self._file.writelines(msgspec.json.encode(entry.row) + b"\n" for entry in entries)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Metrics:
    """Appends rows to metrics.jsonl at once, and to TensorBoard's events now and then.

    `write` only queues: one call is a microsecond. What can't be written is logged, once, and the run goes
    on. `close` writes all that is queued.
    """

    def __init__(self, folder: RunFolder, resumed_at: float | None = None) -> None:
        """With `resumed_at` (the checkpoint's wall seconds) rows written after that time are dropped: the
        resumed run goes through that stretch again. Raises OSError if metrics.jsonl can't be written.
        """
        if resumed_at is not None:
            _drop_after(folder.metrics, resumed_at)
        resumed = resumed_at is not None
        self._sinks: list[Sink] = [LineWriter(folder.metrics), TensorBoard(folder.tensorboard, resumed)]
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="actorq-metrics", daemon=True)
        self._thread.start()

    def write(self, row: Row, distributions: Mapping[str, Distribution] | None = None) -> None:
        """Queue a row and what was observed in its interval, never to change again; from any thread."""
        self._entries.put(Entry(row, distributions or {}))

    def close(self) -> None:
        """Write what is queued and close the files. Blocks; a second call does nothing."""
        self._entries.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while batch := self._next_batch():
            for sink in tuple(self._sinks):
                try:
                    sink.add(batch)
                except Exception:
                    log.exception("%s: metrics can't be written; the run goes on without", _name(sink))
                    self._sinks.remove(sink)
        for sink in self._sinks:
            try:
                sink.close()
            except Exception:
                log.exception("%s: the last metrics can't be written", _name(sink))

    def _next_batch(self) -> list[Entry]:
        """All that waits, once there is anything; empty at the end."""
        batch: list[Entry] = []
        entry = self._entries.get()
        while entry is not None:
            batch.append(entry)
            try:
                entry = self._entries.get_nowait()
            except Empty:
                return batch
        if batch:
            self._entries.put(None)  # the end, but this batch comes first
        return batch


def _name(sink: Sink) -> str:
    return type(sink).__name__


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl, none if there is no file; a line cut short by a crash is left out."""
    return [row for _, row in _lines(path)]


def _lines(path: Path) -> list[tuple[bytes, Row]]:
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        try:
            row = msgspec.json.decode(line, type=dict[str, float | None])
        except msgspec.MsgspecError:
            continue
        found.append((line, {name: float("nan") if value is None else value for name, value in row.items()}))
    return found


def _drop_after(path: Path, wall_seconds: float) -> None:
    kept = [line for line, row in _lines(path) if row.get("wall_seconds", 0.0) <= wall_seconds]
    write_whole(path, b"".join(line if line.endswith(b"\n") else line + b"\n" for line in kept))
