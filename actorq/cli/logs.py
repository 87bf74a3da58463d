"""Logging configuration of the command: standard error and run.log. The library itself configures none."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PROGRESS = "actorq.progress"
"""Logger of progress lines, which are not printed where a live view shows the same."""

PROGRESS_LINE_SECONDS = 5.0

_EARLY_RECORDS = 1000
_ANONYMOUS = ("actorq.actors", "actorq.launchers", "actorq.run", "actorq.transports", PROGRESS, "py.warnings")


class Logs:
    """Handlers for the records of all loggers, from INFO on, and for Python's warnings.

    They go to standard error at once, and to a file as soon as `keep_in` has named one. A context: leaving it
    undoes all but structlog's configuration and matplotlib's level.
    """

    def __init__(self, *, colors: bool, progress_lines: bool) -> None:
        self._to_people = _ToStandardError()
        self._to_people.setFormatter(_formatter("%H:%M:%S", colors))
        if not progress_lines:
            self._to_people.addFilter(lambda record: record.name != PROGRESS)
        self._early = MemoryHandler(_EARLY_RECORDS, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [self._to_people, self._early]
        structlog.configure(  # for actors that log with structlog: the same way
            processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def __enter__(self) -> Self:
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        logging.getLogger("matplotlib").setLevel(logging.WARNING)  # at INFO it logs its search for fonts
        for handler in self._handlers:
            root.addHandler(handler)
        logging.captureWarnings(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.captureWarnings(False)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def keep_in(self, path: Path) -> None:
        """Append all records to a file, those before this call included. Raises OSError."""
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(_formatter("%Y-%m-%dT%H:%M:%S.%fZ", colors=False, utc=True))
        logging.getLogger().addHandler(file)
        self._handlers.append(file)
        logging.getLogger().removeHandler(self._early)
        self._early.setTarget(file)
        self._early.flush()


class _ToStandardError(logging.Handler):
    """Prints to the current `sys.stderr`, which a live view replaces in order to print lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except BrokenPipeError:
            pass  # standard error is closed; the run continues, and run.log has the line
        except Exception:
            self.handleError(record)


def _formatter(time: str, colors: bool, utc: bool = False) -> logging.Formatter:
    console = structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt=time, utc=utc),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            console,
        ],
        foreign_pre_chain=_SHARED,
    )


def _add_actor(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Prefix the event with the name of the actor that logs it, which is its task's name.

    Records of other processes carry the node's name and the actor's. actorq's own loggers name actors in
    their texts.
    """
    record = event.get("_record")
    node = getattr(record, "node", None)
    if node is not None:
        actor = event.pop("actor", "")
        event["event"] = f"{actor}@{event.pop('node')}: {event['event']}".removeprefix("@")
    elif record is None or not record.name.startswith(_ANONYMOUS):
        with suppress(RuntimeError):  # no event loop in this thread
            event["event"] = f"{anyio.get_current_task().name}: {event['event']}"
    return event


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    _add_actor,
]
