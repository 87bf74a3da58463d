"""Structs of the tables that the topology itself defines.

`[agent]`, `[task]` and similar tables are not among them: roles declare those, as `agent: Table[Agent]`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actorq.actors.actor import Actor
from actorq.actors.spec import MAIN, RestartPolicy, Strategy

from .address import PATTERN, WORDS

INPROC = "inproc"
HERE = "here"
"""The `place` of nodes in the caller's process; any other is the name of a launcher."""

Name = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_][A-Za-z0-9_-]*$",
        max_length=80,
        extra={"words": "a name of letters, digits, _ and -, at most 80 of them"},
    ),
]
Count = Annotated[int, Meta(ge=1)]
MOST_MEMBERS = 10_000
Members = Annotated[int, Meta(ge=1, le=MOST_MEMBERS)]
"""Bound on counts of things that all exist at once: an evaluation plays all of its episodes side by side."""
Seconds = Annotated[float, Meta(gt=0)]
Backend = Literal["asyncio", "trio"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables: checked key by key, and an unknown key is a problem."""


class Solved(Settings, frozen=True, kw_only=True):
    """`solved = { return = 475.0, episodes = 20 }`, or with several tasks `return = { cartpole = 475.0 }`."""

    mean_return: Annotated[
        float | dict[Name, float],
        Meta(
            description="the greedy policy's mean return to reach; with several tasks, of each required "
            "task, by its name"
        ),
    ] = msgspec.field(name="return")
    episodes: Annotated[Members, Meta(description="number of evaluation episodes, of each task")] = 20

    def in_words(self) -> str:
        """As text, such as "mean return 475 over 20 episodes"."""
        wanted = self.mean_return
        if isinstance(wanted, dict):
            words = ", ".join(f"{name} {mark:g}" for name, mark in wanted.items())
        else:
            words = f"{wanted:g}"
        return f"mean return {words} over {self.episodes} episodes"


class Stop(Settings, frozen=True, kw_only=True):
    """Stop conditions: the first to be reached ends the run. Without any it continues until it is stopped."""

    solved: Annotated[
        Solved | None, Meta(description="the evaluated greedy policy reaches this mean return")
    ] = None
    env_steps: Annotated[Count | None, Meta(description="environment steps, all explorers together")] = None
    updates: Annotated[Count | None, Meta(description="updates (optimizer steps)")] = None
    episodes: Annotated[Count | None, Meta(description="finished episodes, all explorers together")] = None
    wall_seconds: Annotated[Seconds | None, Meta(description="seconds since the command's start")] = None


class RunTable(Settings, frozen=True, kw_only=True):
    """Output of the run itself, and its intervals."""

    metrics_every_seconds: Annotated[Seconds, Meta(description="seconds between two rows of metrics")] = 1.0
    checkpoint_every_seconds: Annotated[Seconds, Meta(description="seconds between two checkpoints")] = 60.0


class NodeTable(Settings, frozen=True, kw_only=True):
    """One `[nodes.NAME]`: a place for actors. `main`, the caller's process, exists without being declared."""

    count: Annotated[
        Members, Meta(description="number of nodes; actors are distributed among them in turn")
    ] = 1
    place: Annotated[
        str,
        Meta(
            description="where it runs: here, in the caller's process; or the launcher that starts it:"
            " process, on this machine; host, on a machine that joins; or another installed one"
        ),
    ] = HERE
    transport: Annotated[
        str, Meta(description="how it is reached; over inproc all nodes share the caller's process")
    ] = INPROC
    address: Annotated[
        Annotated[str, Meta(pattern=PATTERN, extra={"words": WORDS})] | None,
        Meta(description="main only: where it listens for nodes of other hosts; port 0 selects a free port"),
    ] = None
    insecure: Annotated[
        bool,
        Meta(description="main only: no TLS between hosts: messages can be read and changed on the network"),
    ] = False
    options: dict[str, Any] = {}
    """Settings of launchers, by name; in a file they are tables such as `[nodes.NAME.ssh]`."""


NODE_KEYS = tuple(name for name in NodeTable.__struct_fields__ if name != "options")
"""The keys of a node that topology knows; any other is the name of a launcher whose options it has."""


class Mailbox(Settings, frozen=True, kw_only=True):
    """Bound on one sender's unhandled messages at one receiver, beyond which it has to wait."""

    messages: Annotated[Count, Meta(description="unhandled messages per sender")] = 1000
    bytes: Annotated[Count, Meta(description="payload bytes of unhandled messages per sender")] = (
        256 * 1024**2
    )


class SnapshotTable(Settings, frozen=True, kw_only=True):
    """`snapshot_every = { seconds = 30 }` or `{ updates = 1000 }`: not both."""

    seconds: Annotated[Seconds | None, Meta(description="seconds between two snapshots")] = None
    updates: Annotated[Count | None, Meta(description="updates between two snapshots")] = None


class ActorTable(Settings, frozen=True, kw_only=True):
    """One `[actors.NAME]`."""

    role: Annotated[str | type[Actor], Meta(extra={"words": 'a role\'s name or "package.module:Class"'})]
    """In Python the class itself is allowed."""
    count: Annotated[Members, Meta(description="how many members: NAME.0, NAME.1, …")] = 1
    node: Annotated[str, Meta(description="the node it runs on")] = MAIN
    ports: Annotated[
        dict[str, str | tuple[str, ...]],
        Meta(description="port = the actor it is wired to; a group or feed port also takes a list"),
    ] = {}
    config: Any = {}
    """A table, or in Python an instance of the role's `Config`."""
    restart: Annotated[RestartPolicy, Meta(description="when it is started again")] = "on-failure"
    mailbox: Annotated[Mailbox, Meta(description="bounds of its mailbox, for each sender")] = Mailbox()
    snapshot_every: Annotated[
        SnapshotTable | None, Meta(description="how often its state is kept for a restart; absent: never")
    ] = None


class GroupTable(Settings, frozen=True, kw_only=True):
    """One `[groups.NAME]`: actors that are supervised together."""

    actors: Annotated[tuple[str, ...], Meta(min_length=1, description="the members, by actor name")]
    count: Annotated[Members, Meta(description="number of instances: NAME.0.ACTOR, NAME.1.ACTOR, …")] = 1
    strategy: Annotated[
        Strategy,
        Meta(description="which members restart when one crashes: it, all, or it and those after it"),
    ] = "one-for-one"
    max_restarts: Annotated[int, Meta(ge=0, description="one more crash within the time fails the run")] = 3
    within_seconds: Annotated[Seconds, Meta(description="the time to which max_restarts refers")] = 60.0
    backoff_seconds: Annotated[
        float, Meta(ge=0, description="wait before the first restart; doubles with each")
    ] = 0.1
    backoff_max_seconds: Annotated[float, Meta(ge=0, description="the longest wait before a restart")] = 5.0


class Topology(Settings, frozen=True, kw_only=True):
    """A topology as declared. `check` validates it and returns its plan.

    Made by `load` from a file, or in Python with the same checks: `Topology(name="demo", actors={"counter":
    ActorTable(role=Counter, config={"start": 3})})`.
    """

    name: Annotated[Name, Meta(description="names the run and its folder; absent: the file's name")] = "run"
    seed: Annotated[int, Meta(ge=0, description="all randomness follows from it")] = 0
    deterministic: Annotated[
        bool, Meta(description="one process, one actor at a time, in seeded order: two runs are identical")
    ] = False
    backend: Annotated[Backend, Meta(description="the event loop")] = "asyncio"
    python_path: Annotated[
        tuple[str, ...],
        Meta(description="folders in which roles' modules are searched, beside the file's own"),
    ] = ()
    stop: Annotated[Stop, Meta(description="when the run ends: whichever comes first")] = Stop()
    run: Annotated[RunTable, Meta(description="what the run writes, and how often")] = RunTable()
    nodes: Annotated[dict[Name, NodeTable], Meta(description="where actors run")] = {}
    actors: Annotated[
        dict[Name, ActorTable], Meta(description="the actors, in the order in which they start")
    ]
    groups: Annotated[dict[Name, GroupTable], Meta(description="actors that are supervised together")] = {}
    tables: dict[str, Any] = {}
    """The tables that roles declare, by name; in a file they are at the top level."""


OWN_KEYS = tuple(name for name in Topology.__struct_fields__ if name != "tables")
"""The top-level keys of the topology itself; any other names a table that some role declares."""
