"""Rows of metrics on their way to disk, by a thread: a slow disk never holds up the run's loop."""

from __future__ import annotations

import logging
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from .folder import RunFolder, write_whole
from .recorder import Row
from .tensorboard import TensorBoard

log = logging.getLogger("actorq.run")


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
        self._file: BinaryIO = folder.metrics.open("ab")
        self._tensorboard = TensorBoard(folder.tensorboard, resumed=resumed_at is not None)
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="actorq-metrics", daemon=True)
        self._thread.start()

    def write(self, row: Row) -> None:
        """Queue a row; from any thread."""
        self._rows.put(row)

    def close(self) -> None:
        """Write what is queued and close the files. Blocks; a second call does nothing."""
        self._rows.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_all(self) -> None:
        try:
            with self._file as file, self._tensorboard as tensorboard:
                while batch := self._next_batch():
                    file.writelines(msgspec.json.encode(row) + b"\n" for row in batch)
                    file.flush()
                    tensorboard.add(batch)
        except Exception:
            log.exception("%s: metrics can't be written; the run goes on without", self._file.name)

    def _next_batch(self) -> list[Row]:
        """All that waits, once there is anything; empty at the end."""
        batch: list[Row] = []
        row = self._rows.get()
        while row is not None:
            batch.append(row)
            try:
                row = self._rows.get_nowait()
            except Empty:
                return batch
        self._rows.put(None)  # the end stays: this batch first
        return batch


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl, none if there is no file; a line cut short by a crash is left out."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = msgspec.json.decode(line, type=dict[str, float | None])
        except msgspec.MsgspecError:
            continue
        rows.append({name: float("nan") if value is None else value for name, value in row.items()})
    return rows


def _drop_after(path: Path, wall_seconds: float) -> None:
    kept = [row for row in read_rows(path) if row.get("wall_seconds", 0.0) <= wall_seconds]
    write_whole(path, b"".join(msgspec.json.encode(row) + b"\n" for row in kept))
