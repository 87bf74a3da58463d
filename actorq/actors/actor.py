"""The base class of all actors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, TypeVarTuple, Unpack, overload

from . import message as messages
from .definition import Definition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .ref import Ref
    from .runtime.envelope import DeadLetter
    from .runtime.reports import Reports
    from .runtime.scheduler import Event, Scheduler
    from .spec import ActorSpec

C = TypeVar("C", covariant=True)
V = TypeVar("V")
Args = TypeVarTuple("Args")

State = dict[str, Any]
"""Numpy arrays, numbers, text, bytes, booleans, None, lists and dicts of these: saved without pickle."""


SettingProblem = tuple[str, str]
"""What is wrong with a setting: a key such as "config.capacity" or "ports.replay", and a sentence."""


class HasConfig(Protocol[C]):
    @property
    def Config(self) -> type[C]: ...


class ActorRuntime(Protocol):
    """What an actor object needs of its runtime record; see runtime/actor_cell.py."""

    spec: ActorSpec
    restarts: int
    clock: Scheduler
    reports: Reports
    senders: dict[type[messages.Message], tuple[str, ...]]

    def watch(self, name: str) -> None: ...
    def made_progress(self, name: str, amount: int) -> None: ...
    def keep_snapshot_soon(self) -> None: ...
    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V: ...
    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class _ConfigOf:
    """Descriptor that types `self.config` as the class's own `Config`."""

    @overload
    def __get__(self, actor: None, owner: type) -> _ConfigOf: ...
    @overload
    def __get__(self, actor: HasConfig[C], owner: type) -> C: ...
    def __get__(self, actor: Any, owner: type) -> Any:
        return self if actor is None else actor._cell.spec.config


class Actor:
    """Base class of actors: objects with private state that communicate only by typed messages.

    Lifecycle: `__init__` (ports, tables and config are set already), `on_start`, `load_state` if there is a
    snapshot, then handlers and `run` until the end, then `on_stop`. A crash ends every task the actor has
    started; a fresh object replaces it under the same name, with the unread mailbox.
    """

    class Config(messages.Config):
        """What the topology file may set; override it."""

    one_state: ClassVar[bool] = False
    """Whether a group's members share one state: a checkpoint of another count is refused."""

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Former names of ports and settings, still read: {"ports.front": "ports.coordinator"}; "" if ignored."""

    config = _ConfigOf()
    definition: ClassVar[Definition]
    _cell: ActorRuntime

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enclosing = sys._getframe(1)  # the class statement's own scope, for classes local to a function
        scopes = [dict(enclosing.f_locals)] if enclosing.f_locals is not enclosing.f_globals else []
        cls.definition = Definition(cls, scopes)
        cls.definition.read()

    # Methods that a subclass overrides.

    async def on_start(self) -> None:
        """Runs before any message is handled. May ask actors that come earlier in the file."""

    async def run(self) -> None:
        """The actor's own loop, beside its handlers; starts when all actors have started.

        It is cancelled first when the run stops. If it returns, the actor continues to handle messages,
        unless its restart policy is "always".
        """

    def on_drain(self) -> None:
        """Called when the run is stopping and all loops are cancelled: release handlers that wait."""

    async def on_stop(self) -> None:
        """Called at an orderly end, with the mailbox drained; not after a crash."""

    async def on_undelivered(self, dead_letter: DeadLetter) -> None:
        """Called for each of this actor's own messages that became a dead letter."""

    async def on_down(self, name: str, incarnation: int) -> None:
        """Called when an incarnation of a watched actor has ended: by a crash, a restart with its group, its
        retirement or the loss of its node. See `watch`.

        `incarnation`: its number of restarts; all earlier incarnations have ended as well.
        """

    def state(self) -> State:
        """State for snapshots and checkpoints; its values must not change afterwards."""
        return {}

    def load_state(self, state: State) -> None:
        """Restore a state made by `state`; called after `on_start`."""

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        """Validate settings beyond their types: yield pairs of a key and a sentence.

        Called before anything starts. A key such as "config.capacity" or "task.env" names the setting. Tables
        that have problems of their own are not among `tables`.
        """
        return ()

    @classmethod
    def real_time(cls, config: Any) -> str:
        """Why the actor can't take part in a deterministic run; "" if it can."""
        return ""

    @classmethod
    def wiring_problems(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[SettingProblem]:
        """Validate the wiring of this actor: yield problems as `problems` does, with keys such as
        "ports.replay".

        Called before anything starts, once for all members of a group (with the first one's `spec`), and only
        if there are no other problems. `specs` are all actors' specs, by name.
        """
        return ()

    @classmethod
    def machine_problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[SettingProblem]:
        """What this machine lacks to run the actor, as `problems`; called before anything starts."""
        return ()

    @classmethod
    def state_problems(cls, config: Any, tables: Mapping[str, Any], state: State) -> Iterable[SettingProblem]:
        """Why the actor can't resume from a checkpoint's state, as `problems`; called before a run is
        resumed.
        """
        return ()

    @classmethod
    def memory(cls, spec: ActorSpec, specs: Mapping[str, ActorSpec]) -> Iterable[tuple[str, int]]:
        """Memory the actor will hold, as pairs (what, bytes), such as that of a full replay.

        Called for valid topologies, once for all members of a group (with the first one's `spec`), and
        reported for each member. `specs` are all actors' specs, by name.
        """
        return ()

    # Methods that a subclass calls.

    @property
    def name(self) -> str:
        """The actor's own name; members of a group are `explorer.0`, `explorer.1`, …"""
        return self._cell.spec.name

    @property
    def index(self) -> int:
        """The actor's position in its group, from 0."""
        return self._cell.spec.index

    @property
    def count(self) -> int:
        """Number of members of the actor's group."""
        return self._cell.spec.count

    @property
    def instances(self) -> int:
        """Number of instances of the actor's group table: equal consecutive parts of `count`."""
        return self._cell.spec.instances

    @property
    def seed(self) -> int:
        """Seed derived from the run's seed and this actor's name: adding an actor changes no other actor's
        seed.
        """
        return self._cell.spec.seed

    @property
    def run_name(self) -> str:
        """The topology's name; names what a run leaves outside its folder."""
        return self._cell.spec.run_name

    @property
    def restarts(self) -> int:
        """Number of restarts of this actor."""
        return self._cell.restarts

    @property
    def deterministic(self) -> bool:
        """Whether the run is deterministic: one actor at a time, in a seeded order."""
        return self._cell.clock.deterministic

    def report(self, name: str, value: float) -> None:
        """Report a gauge, such as a loss: metrics show its mean over the interval and over the actors.

        Call it on the actors' loop only: not in a `@handles(thread=True)` handler, nor in code run by
        `in_thread`.
        """
        self._cell.reports.gauge(self.name, name, float(value))

    def observe(self, name: str, values: float | NDArray[Any]) -> None:
        """Observe values whose distribution matters, such as priorities: one number, or an array.

        Metrics show their mean and quantiles, TensorBoard and the report their histogram. NaN and infinite
        values are counted separately. Another process sends them every half second; its death loses unsent
        ones. Call it on the actors' loop only, as `report`.
        """
        self._cell.reports.observe(self.name, name, values)

    def progress(self, name: str, amount: int = 1) -> None:
        """Add to a counter, such as env_steps: `[stop]` and the summary read the sum over all actors.

        Progress also resets the actor's restart count, once its incarnation has run for half a second. Call
        it on the actors' loop only, as `report`.
        """
        self._cell.made_progress(name, amount)

    def keep_snapshot(self) -> None:
        """Take a snapshot of `state()` once this handler has returned, for the next incarnation.

        For an actor that knows at which moments its state is worth restoring; see also the topology's
        `snapshot_every_seconds` and `snapshot_every_updates`.
        """
        self._cell.keep_snapshot_soon()

    def watch(self, actor: Ref[Any] | str) -> None:
        """Watch an actor, by ref or name: `on_down` is called whenever an incarnation of it has ended.

        This is a death watch (Erlang's monitor, Akka's DeathWatch) on the name: it covers all later
        incarnations of that actor, and ends with the watcher's own incarnation, so call it in `on_start`.
        Watching twice changes nothing.

        `on_down` runs as a serial handler, after all messages of the incarnation and before any of the next
        one; handlers with `concurrent` may still be working on earlier messages. It is called once for each
        incarnation, in order; only when the node was lost soon after a crash may the later end stand for
        both. If the actor is down when the watch begins, `on_down` is called for its last incarnation: so a
        restarted watcher learns which actors are down. Once the run is stopping it is not called any more.

        Raises ValueError for an actor with which no port of either connects this one, and for a watcher whose
        class does not override `on_down`.
        """
        self._cell.watch(actor if isinstance(actor, str) else actor.name)

    def senders(self, message: type[messages.Message]) -> tuple[str, ...]:
        """Names of the actors whose ports carry this message type to this actor, in the topology's order."""
        return self._cell.senders.get(message, ())

    def event(self) -> Event:
        """A new event for the actor's tasks to wait for; scheduled in order in a deterministic run."""
        return self._cell.clock.event()

    def now(self) -> float:
        """Seconds on the run's clock: monotonic, virtual in a deterministic run."""
        return self._cell.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the run's clock."""
        await self._cell.clock.sleep(seconds)

    async def in_thread(self, function: Callable[[Unpack[Args]], V], *args: *Args) -> V:
        """Run blocking code in a thread (in a deterministic run: inline).

        Cancelled, the thread is abandoned: it ends by itself and its result is dropped.
        """
        return await self._cell.in_thread(function, *args)

    def start_soon(self, function: Callable[[Unpack[Args]], Coroutine[Any, Any, Any]], *args: *Args) -> None:
        """Start a task that ends with this incarnation; an exception in it is a crash of the actor."""
        self._cell.start_soon(function, *args)


Actor.definition = Definition(Actor, [])
