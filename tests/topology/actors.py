"""Example actors, shaped like those that train, and a topology of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actorq.actors import message
from actorq.actors.actor import Actor
from actorq.actors.definition import Table, handles
from actorq.actors.message import Message, Request
from actorq.actors.ref import Feed, Group, Ref, Topic
from actorq.topology import Stop


class Insert(Message):
    amount: int


class Batch(Message):
    size: int


class Sample(Request[Batch]):
    size: int


class Weights(Message):
    version: int


class Heat(Message):
    degrees: float


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    width: Annotated[int, Meta(ge=1)]
    bias: bool = True


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The learning rule."""

    hidden: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(description="widths of the layers")] = (
        64,
    )
    n_step: Annotated[int, Meta(ge=1, description="steps until the bootstrap")] = 3
    loss: Literal["huber", "squared"] = "huber"
    clip: Annotated[float, Meta(gt=0)] | None = None
    layers: list[Layer] = []
    head: Layer | None = None
    gains: dict[str, float] = {}


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    env: Annotated[str, Meta(min_length=1)]

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.env == "Nowhere-v0":
            yield "env", "there is no environment Nowhere-v0"


class OtherAgent(msgspec.Struct, frozen=True):
    n_step: int = 3


class Replay(Actor):
    """Keeps experience."""

    class Config(message.Config):
        capacity: Annotated[int, Meta(ge=1)] = 1000
        alpha: Annotated[float, Meta(ge=0, le=1)] = 0.6

    @handles
    async def insert(self, request: Insert) -> None: ...

    @handles
    async def sample(self, request: Sample) -> Batch:
        return Batch(request.size)

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        if config.capacity == 13:
            yield "config.capacity", "13 brings bad luck"


class Learner(Actor):
    """Learns."""

    class Config(message.Config):
        batch: int = 32

    agent: Table[Agent]
    task: Table[Task]
    replay: Ref[Sample]
    weights: Topic[Weights]

    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        if tables["agent"].n_step > config.batch:
            yield "agent.n_step", f"longer than a batch of {config.batch}"


class Explorer(Actor):
    class Config(message.Config):
        envs: int = 1

    agent: Table[Agent]
    task: Table[Task]
    replay: Ref[Insert]
    weights: Feed[Weights]

    @handles
    async def follow(self, newest: Weights) -> None: ...


class Evaluator(Actor):
    stop: Table[Stop]
    task: Table[Task]
    weights: Feed[Weights]

    @handles
    async def follow(self, newest: Weights) -> None: ...


class Watcher(Actor):
    """Has a port of each kind, all optional but one group."""

    all_replays: Group[Insert | Sample]
    one: Ref[Insert] | None
    news: Feed[Weights] | None
    both: Feed[Weights | Heat] | None
    heat: Topic[Heat] | None

    @handles
    async def follow(self, newest: Weights) -> None: ...

    @handles
    async def warm(self, heat: Heat) -> None: ...


class Announcer(Actor):
    """Publishes, and knows nobody."""

    weights: Topic[Weights]


class Loner(Actor):
    """Knows nobody."""


class NeedsConfig(Actor):
    class Config(message.Config):
        path: str


class OddAgent(Actor):
    agent: Table[OtherAgent]


class TakesNodes(Actor):
    nodes: Table[OtherAgent]


class SolvedView(msgspec.Struct, frozen=True):
    goal: float = msgspec.field(name="return")


class StopView(msgspec.Struct, frozen=True):
    solved: SolvedView | None = None
    updates: int = 7


class Viewer(Actor):
    stop: Table[StopView]


class BadCheck(Actor):
    @classmethod
    def problems(cls, config: Any, tables: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        raise RuntimeError("own goal")


class Unresolved(Actor):
    port: Ref[NoSuchMessage]  # type: ignore[name-defined]  # noqa: F821


class Unreadable(Actor):
    class Config(message.Config):
        rate: Annotated[str, Meta(ge=1)] = ""


class NotAnActor:
    pass


def role(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def hierarchy() -> dict[str, Any]:
    """A good topology with everything in it, as a file would give it."""
    return {
        "name": "hierarchy",
        "seed": 7,
        "task": {"env": "CartPole-v1"},
        "agent": {"hidden": [128, 128], "n_step": 3},
        "stop": {"solved": {"return": 475.0, "episodes": 20}, "env_steps": 200_000},
        "run": {"metrics_every_seconds": 2, "checkpoint_every_seconds": 30.0},
        "nodes": {"main": {}, "explorers": {"count": 2, "place": "process"}},
        "actors": {
            "replay": {"role": role(Replay), "config": {"capacity": 5000}, "mailbox": {"messages": 10}},
            "learner": {
                "role": role(Learner),
                "ports": {"replay": "replay"},
                "snapshot_every": {"updates": 1000},
            },
            "explorer": {
                "role": role(Explorer),
                "count": 4,
                "node": "explorers",
                "ports": {"replay": "replay", "weights": "learner"},
                "config": {"envs": 16},
                "restart": "always",
            },
            "evaluator": {"role": role(Evaluator), "ports": {"weights": ["learner"]}},
            "watcher": {"role": role(Watcher), "ports": {"all_replays": "replay"}},
        },
        "groups": {"core": {"actors": ["replay", "learner"], "strategy": "rest-for-one", "max_restarts": 5}},
    }


def edges(count: int = 3, **nodes: int) -> dict[str, Any]:
    """An edge is a replay, a learner and two explorers; outside one evaluator and one watcher of all."""
    file = hierarchy()
    file["nodes"] = {name: {"count": many} for name, many in nodes.items()}
    for actor in file["actors"].values():
        actor["role"] = globals()[actor["role"].partition(":")[2]]
    file["actors"]["explorer"] |= {"count": 2, "node": "explorers" if "explorers" in nodes else "main"}
    members = ["replay", "learner", "explorer"]
    file["groups"] = {"edge": {"actors": members, "count": count, "strategy": "one-for-all"}}
    return file
