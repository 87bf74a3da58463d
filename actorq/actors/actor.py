"""The base class of all actors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, TypeVarTuple, Unpack, overload

from . import message as messages
from .definition import Definition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .runtime.actor_cell import ActorCell
    from .runtime.envelope import DeadLetter
    from .runtime.scheduler import Event
    from .spec import ActorSpec

C = TypeVar("C", covariant=True)
V = TypeVar("V")
Args = TypeVarTuple("Args")

State = dict[str, Any]
"""Numpy arrays, numbers, text, bytes, booleans, None, lists and dicts of these: saved without pickle."""


class HasConfig(Protocol[C]):
    @property
    def Config(self) -> type[C]: ...


class _ConfigOf:
    """`self.config` is an instance of the class's own `Config`."""

    @overload
    def __get__(self, actor: None, owner: type) -> _ConfigOf: ...
    @overload
    def __get__(self, actor: HasConfig[C], owner: type) -> C: ...
    def __get__(self, actor: Any, owner: type) -> Any:
        return self if actor is None else actor._cell.spec.config


class Actor:
    """An object with its own state that talks to others only by messages.

    Life: `__init__` (ports, tables and config are there already), `on_start`, then `load_state` if there is
    a snapshot, then handlers and `run` until the end, then `on_stop`. A crash ends all an actor has started;
    a fresh object takes its place, under the same name and with the unread mailbox.
    """

    class Config(messages.Config):
        """What the topology file may set; override it."""

    one_state: ClassVar[bool] = False
    """Whether a group's members have one state between them: a checkpoint of another count is refused."""

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Former names of ports and settings, still read: {"ports.front": "ports.coordinator"}."""

    config = _ConfigOf()
    definition: ClassVar[Definition]
    _cell: ActorCell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enclosing = sys._getframe(1)  # the class statement's own scope, for classes local to a function
        scopes = [dict(enclosing.f_locals)] if enclosing.f_locals is not enclosing.f_globals else []
        cls.definition = Definition(cls, scopes)
        cls.definition.read()

    # What a subclass overrides.

    async def on_start(self) -> None:
        """Runs before any message is handled. May ask actors that come earlier in the file."""

    async def run(self) -> None:
        """The actor's own loop, beside its handlers; starts when all actors have started.

        It is cancelled first when the run stops. If it ends by itself the actor goes on handling messages,
        unless its restart policy is "always".
        """

    def on_drain(self) -> None:
        """The run is stopping and no more comes from the actors' loops: let handlers that wait go on."""

    async def on_stop(self) -> None:
        """Runs at an orderly end, with the mailbox drained; not after a crash."""

    async def on_undelivered(self, envelope: DeadLetter) -> None:
        """Told of each of this actor's own messages that was not, or perhaps not, handled."""

    def state(self) -> State:
        """What a snapshot or checkpoint keeps: values that will not change afterwards."""
        return {}

    def load_state(self, state: State) -> None:
        """Take over what `state` gave; called after `on_start`."""

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """What types can't tell is wrong with these settings: pairs of a key and a sentence.

        Asked before anything starts. A key such as "config.capacity" or "task.env" says where to look.
        A table that has problems of its own already is not among `tables`.
        """
        return ()

    @classmethod
    def real_time(cls, config: Any) -> str:
        """Why it can't take part in a deterministic run; "" if it can. `check` says so."""
        return ""

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, str]]:
        """What is wrong between this actor and others, as `problems`; keys such as "ports.replay" are its
        own.

        Asked before anything starts, once for all members of a group (with the first one's `spec`), and only
        if nothing else is wrong. `specs` are all actors', by name.
        """
        return ()

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        """What this machine lacks to run it, as `problems`; asked before anything starts."""
        return ()

    @classmethod
    def state_problems(
        cls, config: Any, tables: Mapping[str, Any], state: State
    ) -> Iterable[tuple[str, str]]:
        """Why it couldn't go on from a checkpoint's state, as `problems`; asked before a run is resumed."""
        return ()

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        """What it will hold that is worth planning for: (what, bytes), such as of a replay when it is full.

        Asked of topologies that are right, once for all members of a group (with the first one's `spec`), and
        told of each. `specs` are all actors', by name.
        """
        return ()

    # What a subclass uses.

    @property
    def name(self) -> str:
        """The actor's own name; members of a group are `explorer.0`, `explorer.1`, …"""
        return self._cell.spec.name

    @property
    def index(self) -> int:
        """The place in the group, from 0."""
        return self._cell.spec.index

    @property
    def count(self) -> int:
        """How many members the group has."""
        return self._cell.spec.count

    @property
    def instances(self) -> int:
        """How many times its group is there: so many equal parts of `count`, one after the other."""
        return self._cell.spec.instances

    @property
    def seed(self) -> int:
        """Derived from the run's seed and this actor's name: adding an actor changes no other's."""
        return self._cell.spec.seed

    @property
    def run_name(self) -> str:
        """The topology's name: what a run leaves behind outside its folder goes by it."""
        return self._cell.spec.run_name

    @property
    def restarts(self) -> int:
        """How often this actor has been started again."""
        return self._cell.restarts

    @property
    def deterministic(self) -> bool:
        """True if one actor at a time runs, in a seeded order."""
        return self._cell.clock.deterministic

    def report(self, name: str, value: float) -> None:
        """A reading, such as a loss: metrics show its mean over the interval and over the actors.

        For the actors' loop only: not from a `@handles(thread=True)` handler, nor from what `in_thread` runs.
        """
        self._cell.reports.gauge(self.name, name, float(value))

    def observe(self, name: str, values: float | NDArray[Any]) -> None:
        """Readings whose distribution matters, such as priorities: one, or an array of many at once.

        Metrics show their mean and quantiles, TensorBoard and the report their histogram. NaN and infinite
        ones are counted apart. From another process they come every half second, and its death loses what it
        hasn't sent. For the actors' loop only, as `report`.
        """
        self._cell.reports.observe(self.name, name, values)

    def progress(self, name: str, amount: int = 1) -> None:
        """Add to a count, such as env_steps: `[stop]` and the summary read the sum over all actors.

        Progress also resets the actor's restart count, once it has lived for half a second. For the actors'
        loop only, as `report`.
        """
        self._cell.made_progress(name, amount)

    def keep_snapshot(self) -> None:
        """Have `state()` kept once this handler has returned: what the next life begins with.

        For an actor that knows at which moments its state is worth going back to; see also the topology's
        `snapshot_every_seconds` and `snapshot_every_updates`.
        """
        self._cell.keep_snapshot_soon()

    def event(self) -> Event:
        """Something the actor's tasks can wait for; in a deterministic run it passes the turn."""
        return self._cell.clock.event()

    def now(self) -> float:
        """Seconds on the run's clock: monotonic, virtual in a deterministic run."""
        return self._cell.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the run's clock."""
        await self._cell.clock.sleep(seconds)

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        """Run blocking code in a thread (in a deterministic run: right here).

        Cancelled, the thread is left to end by itself and its result is dropped.
        """
        return await self._cell.in_thread(function, *args)

    def start_soon(self, function: Callable[[Unpack[Args]], Coroutine[Any, Any, Any]], *args: *Args) -> None:
        """Start a task that lives no longer than this actor; its exception is the actor's crash."""
        self._cell.start_soon(function, *args)


Actor.definition = Definition(Actor, [])
