"""Async primitives for the tasks of an actor: future, semaphore, admission queue, prefetcher, dynamic batcher
and timeout.

They wait by the actor's own events and clock, so they work alike on asyncio, on trio and in a deterministic
run. Use them on the actors' loop only; they are not thread-safe. A restarted actor makes new ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from .actor import Actor
from .errors import Stopping
from .runtime.scheduler import Event

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V")


class Future(Generic[T]):
    """A result or an error that one task sets and others wait for. The first one set counts."""

    def __init__(self, actor: Actor) -> None:
        self._done = actor.event()
        self._result: T | None = None
        self._error: BaseException | None = None

    @property
    def is_set(self) -> bool:
        return self._done.is_set()

    def set(self, result: T) -> None:
        if not self.is_set:
            self._result = result
            self._done.set()

    def fail(self, error: BaseException) -> None:
        if not self.is_set:
            self._error = error
            self._done.set()

    async def wait(self) -> T:
        """The result, once it is set; raises the error given to `fail`. Cancelled, nothing changes."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


class Semaphore:
    """Bounds the number of tasks inside `async with semaphore:`; waiting tasks enter in arrival order.

    A task that is cancelled while it waits gives up its place, also where it was just about to enter.
    """

    def __init__(self, actor: Actor, places: int) -> None:
        self._actor, self._free = actor, places
        self._waiting: deque[Future[None]] = deque()
        self._error: Exception | None = None

    def close(self, error: Exception) -> None:
        """Let no task enter any more: waiting ones, and those that come later, raise `error`."""
        self._error = error
        while self._waiting:
            self._waiting.popleft().fail(error)

    async def __aenter__(self) -> None:
        if self._error is not None:
            raise self._error
        if self._free:
            self._free -= 1
            return
        place = Future[None](self._actor)
        self._waiting.append(place)
        try:
            await place.wait()
            if self._error is not None:  # closed since it was given its place
                raise self._error
        except BaseException:
            if place.is_set:
                self._leave()
            else:
                self._waiting.remove(place)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self._free += 1


@dataclass(eq=False, slots=True)
class _Admission:
    amount: int
    act: Callable[[], Any]
    result: Future[Any]


class AdmissionQueue:
    """First-in-first-out admission: the first in the queue passes once `may_pass(amount)` holds.

    It blocks those behind it until then, so a large amount is never starved by small ones.
    """

    def __init__(self, actor: Actor, may_pass: Callable[[int], bool]) -> None:
        self._actor, self._may_pass = actor, may_pass
        self._waiting: deque[_Admission] = deque()
        self._error: Exception | None = None

    @property
    def first(self) -> int:
        """The amount of the first in the queue; 0 if it is empty."""
        return self._waiting[0].amount if self._waiting else 0

    async def pass_through(self, amount: int, act: Callable[[], T]) -> T:
        """Call `act` once `amount` may pass, and return its result or raise its error.

        It is called in the task that made room, at that moment, so `may_pass` sees its effect before the next
        one is admitted. Cancelled in the queue, it isn't called.
        """
        if self._error is not None:
            raise self._error
        if not self._waiting and self._may_pass(amount):
            return act()
        admission = _Admission(amount, act, Future[T](self._actor))
        self._waiting.append(admission)
        try:
            return cast(T, await admission.result.wait())
        except BaseException:
            if admission in self._waiting:
                self._waiting.remove(admission)
                self.advance()
            raise

    def advance(self) -> bool:
        """Admit all that may pass now; returns whether there were any. Call it after any change that
        `may_pass` depends on.
        """
        moved = False
        while self._waiting and self._may_pass(self._waiting[0].amount):
            admission = self._waiting.popleft()
            try:
                admission.result.set(admission.act())
            except Exception as error:
                admission.result.fail(error)
            moved = True
        return moved

    def close(self, error: Exception) -> None:
        """Admit nothing any more: what waits, and what comes later, raises `error`."""
        self._error = error
        while self._waiting:
            self._waiting.popleft().result.fail(error)


class Prefetcher(Generic[T]):
    """Keeps `ahead` results of `fetch` ready or in progress, and measures how long its user waits for them.

    The calls of `fetch` run concurrently, each in a task of the actor; their results are returned in the
    order of the calls. An error in one is a crash of the actor. A call that raises Stopping is the last of
    its task; then `next` waits until the actor is stopped.
    """

    def __init__(self, actor: Actor, fetch: Callable[[], Awaitable[T]], ahead: int) -> None:
        """Starts fetching at once. `ahead` is at least 1."""
        self._actor, self._fetch = actor, fetch
        self._fetches: deque[tuple[Future[T], Event]] = deque()
        """Each call's result, and an event that is set when its user has taken it."""
        self._begun = actor.event()
        self._waited = 0.0
        self._since = actor.now()
        for _ in range(ahead):
            actor.start_soon(self._keep_one_ready)

    async def next(self) -> T:
        """The next result, as soon as it is available; one caller at a time. Cancelled, it is returned by the
        next call.
        """
        began = self._actor.now()
        while not self._fetches:
            self._begun = self._actor.event()
            await self._begun.wait()
        future, taken = self._fetches[0]
        result = await future.wait()
        self._fetches.popleft()
        self._waited += self._actor.now() - began
        taken.set()
        return result

    def take_waiting_share(self) -> float:
        """The share of the time since the last call of this method that `next` has waited."""
        now = self._actor.now()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share

    async def _keep_one_ready(self) -> None:
        while True:
            result, taken = Future[T](self._actor), self._actor.event()
            self._fetches.append((result, taken))
            self._begun.set()
            try:
                result.set(await self._fetch())
            except Stopping:
                return
            await taken.wait()


@dataclass(eq=False, slots=True)
class BatchedRequest(Generic[R, V]):
    """A request in a batch, and the future of its reply."""

    request: R
    size: int
    arrived: float
    """Seconds, on the actor's clock."""
    reply: Future[V]


class DynamicBatcher(Generic[R, V]):
    """Collects requests into batches (dynamic batching), in arrival order, each whole and in one batch.

    A batch is due once `batch_size` is reached, or once its oldest request has waited for `deadline_seconds`.
    It takes as many requests as fit into `batch_size`; only one that is larger by itself exceeds it.
    """

    def __init__(self, actor: Actor, batch_size: int, deadline_seconds: float) -> None:
        self._actor = actor
        self._batch_size, self._deadline = batch_size, deadline_seconds
        self._waiting: deque[BatchedRequest[R, V]] = deque()
        self._size = 0
        self._error: Exception | None = None
        self._changed = actor.event()
        self._timing = False
        self._taken = actor.now()
        self._held = 0.0

    async def submit(self, request: R, size: int = 1) -> V:
        """The reply, once the task that took the batch has set it; raises the error that it set instead.

        Cancelled before its batch is taken, the request is removed.
        """
        if self._error is not None:
            raise self._error
        entry = BatchedRequest(request, size, self._actor.now(), Future[V](self._actor))
        self._waiting.append(entry)
        self._size += size
        if len(self._waiting) == 1 or self._size >= self._batch_size:
            self._changed.set()
        try:
            return await entry.reply.wait()
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._size -= size
            raise

    async def take(self) -> list[BatchedRequest[R, V]]:
        """The next batch, once it is due; the caller sets or fails each `reply`. One caller at a time.

        Cancelled, the requests keep waiting.
        """
        began = self._actor.now()
        while not self._is_due():
            if self._waiting and not self._timing:
                self._timing = True
                self._actor.start_soon(self._wake_at, self._waiting[0].arrived + self._deadline)
            self._changed = self._actor.event()
            await self._changed.wait()
        now = self._actor.now()
        self._held = (now - max(began, self._waiting[0].arrived)) / max(now - self._taken, 1e-9)
        self._taken = now
        return list(self._cut())

    @property
    def held_share(self) -> float:
        """Share of the time between the last two batches in which requests only waited for others."""
        return self._held

    def close(self, error: Exception) -> None:
        """Collect nothing any more: what waits, and what comes later, raises `error`."""
        self._error = error
        self._size = 0
        while self._waiting:
            self._waiting.popleft().reply.fail(error)

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        oldest = self._waiting[0].arrived
        return self._size >= self._batch_size or self._actor.now() >= oldest + self._deadline

    async def _wake_at(self, due: float) -> None:
        """One timer at a time: when it ends, `take` sets the next."""
        await self._actor.sleep(max(0.0, due - self._actor.now()))  # this task may have started late
        self._timing = False
        self._changed.set()

    def _cut(self) -> Iterator[BatchedRequest[R, V]]:
        room = self._batch_size
        while self._waiting and (self._waiting[0].size <= room or room == self._batch_size):
            entry = self._waiting.popleft()
            room -= entry.size
            self._size -= entry.size
            yield entry


class Timeout:
    """Calls `expired` once a condition has held for `seconds` without a break; never if `seconds` is None."""

    def __init__(self, actor: Actor, seconds: float | None, expired: Callable[[], None]) -> None:
        self._actor, self._seconds, self._expired = actor, seconds, expired
        self._since: float | None = None
        self._begun = actor.event()

    def follow(self, holds: bool) -> None:
        """Note whether the condition holds now: the time counts from the first call with True after one with
        False, and anew after `expired`."""
        if not holds:
            self._since = None
        elif self._since is None:
            self._since = self._actor.now()
            self._begun.set()

    async def run(self) -> None:
        """Watch the time, in a task of the actor, until cancelled."""
        if self._seconds is None:
            return
        while True:
            if self._since is None:
                self._begun = self._actor.event()
                await self._begun.wait()
            elif (left := self._since + self._seconds - self._actor.now()) > 0.0:
                await self._actor.sleep(left)  # the condition may have ended and begun again meanwhile
            else:
                self._since = None
                self._expired()
