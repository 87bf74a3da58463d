"""Log forwarding: sends the log records of a node process to the run's process."""

from __future__ import annotations

import logging
from functools import partial

import anyio
import msgspec

from actorq.actors.runtime import scheduler as scheduling
from actorq.actors.runtime.loop_waker import LoopWaker

from .control_stream import ControlStream

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Log lines beyond this bound are dropped, and counted, while the control stream is slow."""

_formatter = logging.Formatter()


class Logged(msgspec.Struct, frozen=True, tag=True):
    """One log record, as text."""

    logger: str
    level: int
    text: str
    traceback: str
    """The traceback, and the stack if the record has one; empty for most."""
    created: float
    """Seconds since the epoch, by the node's clock."""
    node: str
    actor: str
    """Name of the actor that logged; empty if no actor did."""


def levels_in_force() -> dict[str, int]:
    """The levels that are set, by logger name; the root's name is empty."""
    named = {
        name: logger.level
        for name, logger in logging.Logger.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET
    }
    return {"": logging.getLogger().level, **named}


class Forwarding(logging.Handler):
    """Sends the records of all loggers, and Python's warnings, to the process that started this one.

    Callable from any thread; `serve` passes them to the stream, so records made before it runs wait.
    """

    def __init__(self, node: str, levels: dict[str, int]) -> None:
        super().__init__()
        self._node = node
        self._waker = LoopWaker()
        self._stream: ControlStream | None = None
        self._dropped = 0
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger().addHandler(self)
        logging.captureWarnings(True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waker.call_soon(partial(self._send, self._as_text(record)))
        except Exception:
            self.handleError(record)

    def _as_text(self, record: logging.LogRecord) -> Logged:
        trace = _formatter.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        if record.stack_info:
            trace = "\n".join(filter(None, [trace, _formatter.formatStack(record.stack_info)]))
        return Logged(
            logger=record.name,
            level=record.levelno,
            text=_utf8(record.getMessage()),
            traceback=_utf8(trace),
            created=record.created,
            node=getattr(record, "node", self._node),  # set on records that were forwarded to this process
            actor=getattr(record, "actor", "") or _current_actor(),
        )

    def _send(self, logged: Logged) -> None:
        assert self._stream is not None
        if self._stream.waiting_bytes > MAX_WAITING_BYTES:
            self._dropped += 1
            return
        if self._dropped:
            text = f"{self._dropped} log records of this node were dropped: there were too many at once"
            self._dropped = 0
            about = Logged(__name__, logging.WARNING, text, "", logged.created, self._node, "")
            self._stream.send_soon(about)
        self._stream.send_soon(logged)

    async def serve(self, stream: ControlStream) -> None:
        """Pass logged records to the stream, until cancelled."""
        self._stream = stream
        await self._waker.serve()

    async def flushed(self) -> None:
        """Return when everything logged so far is queued on the stream."""
        reached = anyio.Event()
        self._waker.call_soon(reached.set)
        await reached.wait()

    def close(self) -> None:
        """Log warnings and errors to standard error from now on, which the other process reads as well."""
        logging.getLogger().removeHandler(self)
        logging.captureWarnings(False)
        self._waker.close()
        super().close()


def relog(logged: Logged) -> None:
    """Log a node's record in this process, by its own logger's name, with attributes `node` and `actor`."""
    logger = logging.getLogger(logged.logger)
    if not logger.isEnabledFor(logged.level):
        return
    # Part of the text: as an attribute, only some formatters would show a traceback.
    text = "\n".join(filter(None, [logged.text, logged.traceback]))
    fields = {
        "name": logged.logger,
        "levelno": logged.level,
        "levelname": logging.getLevelName(logged.level),
        "msg": text,
        "created": logged.created,
        "msecs": logged.created % 1 * 1000,
        "node": logged.node,
        "actor": logged.actor,
    }
    logger.handle(logging.makeLogRecord(fields))


def _current_actor() -> str:
    current = getattr(scheduling, "current_actor", None)
    return current.get("") if current is not None else ""


def _utf8(text: str) -> str:
    """The text with escapes for all that UTF-8 can't encode, such as the lone surrogates of file names."""
    return text.encode("utf-8", "backslashreplace").decode()
