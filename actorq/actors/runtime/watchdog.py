"""Watchdog for handlers that block the event loop, and with it all other actors of the process."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import CodeType, FrameType

import anyio

from actorq.actors.actor import Actor

log = logging.getLogger("actorq.actors")

LIMIT_SECONDS = 0.25
TICKS_A_SECOND = 10


class Watchdog:
    """A thread that inspects the event loop's thread when the loop has not ticked for a while."""

    def __init__(self, limit_seconds: float | None = None) -> None:
        self._limit_seconds = LIMIT_SECONDS if limit_seconds is None else limit_seconds
        self._watched = 0
        self._ticked = 0.0
        self._ended = threading.Event()
        self._warned: set[tuple[str, CodeType]] = set()

    async def watch(self) -> None:
        """Watch the calling event loop until cancelled."""
        self._watched = threading.get_ident()
        self._ticked = time.monotonic()
        thread = threading.Thread(target=self._look_on, name="actorq watchdog", daemon=True)
        thread.start()
        try:
            while True:
                await anyio.sleep(1 / TICKS_A_SECOND)
                self._ticked = time.monotonic()
        finally:
            self._ended.set()
            thread.join()  # abandoned at once when cancelled: it only reads

    def _look_on(self) -> None:
        while not self._ended.wait(self._limit_seconds / 2):
            if time.monotonic() - self._ticked > self._limit_seconds + 1 / TICKS_A_SECOND:
                self._warn(sys._current_frames().get(self._watched))

    def _warn(self, innermost: FrameType | None) -> None:
        found = outermost_actor(innermost)
        if found is None:
            return
        actor, frame = found
        place = (actor.name, frame.f_code)
        if place not in self._warned:
            self._warned.add(place)
            log.warning(
                "%s has held the event loop for more than %g s, in %s (%s:%d); meanwhile no other actor "
                "runs: compute in a thread, with @handles(thread=True) or in_thread",
                actor.name,
                self._limit_seconds,
                frame.f_code.co_qualname,
                frame.f_code.co_filename,
                frame.f_lineno,
            )


def outermost_actor(frame: FrameType | None) -> tuple[Actor, FrameType] | None:
    """The innermost frame that is a method of an actor, and that actor."""
    found = None
    while frame is not None:
        # Methods only, by their first parameter: reading all locals of a running frame is slow.
        if frame.f_code.co_argcount and frame.f_code.co_varnames[0] == "self":
            owner = frame.f_locals.get("self")
            if isinstance(owner, Actor):
                found = owner, frame
        frame = frame.f_back
    return found
