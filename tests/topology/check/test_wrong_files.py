"""Every kind of mistake in a file, with its place and the text that names it."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest

from actorq.actors import Actor
from actorq.topology import TopologyError, check
from actorq.topology.check import nodes
from tests.topology import actors as example

Change = Callable[[dict[str, Any]], None]

REMOVED = object()


def put(path: str, value: Any) -> Change:
    """A change of one key of the file."""
    *tables, last = path.split("/")

    def change(file: dict[str, Any]) -> None:
        table = reduce(lambda inner, key: inner.setdefault(key, {}), tables, file)
        if value is REMOVED:
            del table[last]
        else:
            table[last] = value

    return change


def role_of(actor: str, cls: type) -> Change:
    return put(f"actors/{actor}", {"role": example.role(cls)})


def both(*changes: Change) -> Change:
    def change(file: dict[str, Any]) -> None:
        for each in changes:
            each(file)

    return change


def hosts(**main: Any) -> Change:
    """The explorers join from other hosts."""
    return put("nodes", {"main": main, "explorers": {"count": 2, "place": "host", "transport": "nng"}})


def local_role() -> type:
    class Local(Actor):
        pass

    return Local


class InMain(Actor):
    """As a script's own class."""


InMain.__module__ = "__main__"
MAIN = "tcp://10.0.0.1:7070"

CASES: list[tuple[Change, str, tuple[str, ...]]] = [
    # Topology's own keys
    (put("sede", 3), "sede", ("unknown key", 'did you mean "seed"?')),
    (put("seed", "one"), "seed", ('found "one"', "an integer (at least 0)")),
    (put("seed", -1), "seed", ("found -1", "at least 0")),
    (put("seed", 1.5), "seed", ("found 1.5", "an integer")),
    (put("name", "a/b"), "name", ('found "a/b"', "letters, digits, _ and -")),
    (put("name", ""), "name", ('found ""', "a name")),
    (put("deterministic", 1), "deterministic", ("found 1", "true or false")),
    (put("backend", "curio"), "backend", ('found "curio"', '"asyncio"', '"trio"')),
    (put("stop/env_step", 5), "stop.env_step", ("unknown key", '"env_steps"')),
    (put("stop/env_steps", 0), "stop.env_steps", ("found 0", "at least 1")),
    (put("stop/wall_seconds", float("nan")), "stop.wall_seconds", ("found nan", "above 0")),
    (put("stop/solved", {"episodes": 5}), "stop.solved.return", ("missing", "a number")),
    (put("stop/solved", 475.0), "stop.solved", ("found 475.0", "a table")),
    (put("actors/evaluator", REMOVED), "stop.solved", ("no actor would measure it",)),
    (put("run/metrics_every_seconds", 0), "run.metrics_every_seconds", ("found 0", "above 0")),
    (put("run/every", 1), "run.every", ("unknown key", '"checkpoint_every_seconds"')),
    (put("python_path", "lib"), "python_path", ('found "lib"', "a list")),
    (put("actors", {}), "actors", ("there are none",)),
    (put("actors", REMOVED), "actors", ("missing",)),
    (put("actors", [1]), "actors", ("found a list", "a table")),
    # Tables of the roles
    (put("agnet", {}), "agnet", ("unknown table", 'did you mean "agent"?')),
    (put("agent/n_steps", 3), "agent.n_steps", ("unknown key", 'did you mean "n_step"?')),
    (put("agent/n_step", 2.5), "agent.n_step", ("found 2.5", "an integer (at least 1)")),
    (put("agent/hidden", 128), "agent.hidden", ("found 128", "a list, each item an integer (at least 1)")),
    (put("agent/hidden", [64, 0, 64]), "agent.hidden[1]", ("found 0", "at least 1")),
    (put("agent/loss", "hubert"), "agent.loss", ('found "hubert"', 'one of "huber", "squared"')),
    (put("agent/clip", 0), "agent.clip", ("found 0", "a number (above 0)")),
    (put("agent/layers", [{"width": 3}, {"widht": 3}]), "agent.layers[1].width", ("missing",)),
    (put("agent/head", {"width": "3"}), "agent.head.width", ('found "3"', "an integer")),
    (put("agent/gains", {"a": 1, "b": True}), "agent.gains.b", ("found true", "a number")),
    (put("agent", 5), "agent", ("found 5", "a table")),
    (put("task", REMOVED), "task.env", ("missing", "a text")),
    (put("task/env", "Nowhere-v0"), "task.env", ("there is no environment",)),
    (role_of("odd", example.OddAgent), "agent", ("declared as", "OtherAgent", "must agree")),
    (role_of("odd", example.TakesNodes), "actors.odd.role", ('a table "nodes"', "keeps for itself")),
    # Roles
    (put("actors/replay/role", "replai"), "actors.replay.role", ("unknown role", 'did you mean "replay"?')),
    (put("actors/replay/role", 5), "actors.replay.role", ("found 5", '"package.module:Class"')),
    (put("actors/replay/role", REMOVED), "actors.replay.role", ("missing",)),
    (put("actors/replay/role", "no_such:A"), "actors.replay.role", ("no module no_such", "not installed")),
    (put("actors/replay/role", ":A"), "actors.replay.role", ('":A" is not of the form',)),
    (put("actors/replay/role", "a b:A"), "actors.replay.role", ("is not of the form",)),
    (
        put("actors/replay/role", "tests.topology.actors:Replays"),
        "actors.replay.role",
        ('has no "Replays"', 'did you mean "Replay"?'),
    ),
    (role_of("replay", example.NotAnActor), "actors.replay.role", ("not a subclass of actorq.Actor",)),
    (role_of("odd", example.Unresolved), "actors.odd.role", ("can't be resolved", "NoSuchMessage")),
    (role_of("odd", example.Unreadable), "actors.odd.role", ("Config has a type that can't be read",)),
    (role_of("odd", example.BadCheck), "actors.odd", ("its own check failed", "own goal")),
    # Actors
    (put("actors/replay", "replay"), "actors.replay", ('found "replay"', "a table")),
    (put("actors/replay/cuont", 2), "actors.replay.cuont", ("unknown key", 'did you mean "count"?')),
    (put("actors/replay/count", 0), "actors.replay.count", ("found 0", "at least 1")),
    (put("actors/replay/node", "mian"), "actors.replay.node", ("unknown node", 'did you mean "main"?')),
    (put("actors/replay/restart", "maybe"), "actors.replay.restart", ('"always", "on-failure", "never"',)),
    (put("actors/replay/mailbox", {"messages": 0}), "actors.replay.mailbox.messages", ("at least 1",)),
    (put("actors/replay/snapshot_every", {}), "actors.replay.snapshot_every", ("neither", "give one")),
    (
        put("actors/replay/snapshot_every", {"seconds": 1, "updates": 1}),
        "actors.replay.snapshot_every",
        ("both seconds and updates",),
    ),
    (put("actors/replay/config/capactiy", 1), "actors.replay.config.capactiy", ('"capacity"',)),
    (put("actors/replay/config/alpha", 1.5), "actors.replay.config.alpha", ("at least 0, at most 1",)),
    (put("actors/replay/config", []), "actors.replay.config", ("found an empty list", "a table")),
    (put("actors/replay/config/capacity", 13), "actors.replay.config.capacity", ("bad luck",)),
    (put("actors/learner/config/batch", 2), "agent.n_step", ("longer than a batch of 2",)),
    (role_of("odd", example.NeedsConfig), "actors.odd.config.path", ("missing", "a text")),
    (put("actors/a.b", {"role": example.role(example.Loner)}), "actors.a.b", ('found "a.b"', "a name")),
    # Ports
    (put("actors/learner/ports", {}), "actors.learner.ports.replay", ("missing", "Ref[Sample]", '"replay"')),
    (put("actors/learner/ports", 5), "actors.learner.ports", ("found 5", "a table")),
    (put("actors/learner/ports/replai", "replay"), "actors.learner.ports.replai", ('"replay"',)),
    (
        put("actors/learner/ports/replay", "reply"),
        "actors.learner.ports.replay",
        ("unknown actor", '"replay"'),
    ),
    (
        put("actors/learner/ports/replay", "evaluator"),
        "actors.learner.ports.replay",
        ("does not handle Sample", "it handles Weights"),
    ),
    (put("actors/learner/ports/replay", ["replay"]), "actors.learner.ports.replay", ("wired to one actor",)),
    (put("actors/replay/count", 2), "actors.learner.ports.replay", ("has count 2", "Group[Sample]")),
    (put("actors/learner/ports/weights", "replay"), "actors.learner.ports.weights", ("is published, not",)),
    (
        put("actors/explorer/ports/weights", "replay"),
        "actors.explorer.ports.weights",
        ("does not publish Weights", "it has no Topic"),
    ),
    (put("actors/explorer/ports/weights", []), "actors.explorer.ports.weights", ("empty list", '"learner"')),
    (put("actors/watcher/ports/all_replays", []), "actors.watcher.ports.all_replays", ("empty list",)),
    (
        put("actors/watcher/ports/all_replays", ["replay", "replay"]),
        "actors.watcher.ports.all_replays",
        ("is there twice",),
    ),
    (
        put("actors/watcher/ports/all_replays", ["replay", "learner"]),
        "actors.watcher.ports.all_replays",
        ('"learner" (Learner) does not handle Insert, Sample', "no messages"),
    ),
    (
        put("actors/watcher/ports/both", "learner"),
        "actors.watcher.ports.both",
        ("no actor it is wired to publishes Heat",),
    ),
    (put("actors/watcher/ports/news", [3]), "actors.watcher.ports.news[0]", ("found 3",)),
    # Nodes and groups
    (put("nodes/explorers/count", 0), "nodes.explorers.count", ("found 0",)),
    (put("nodes/explorers/place", "cloud"), "nodes.explorers.place", ('"here", "host", "process"',)),
    (put("nodes/explorers/place", "proces"), "nodes.explorers.place", ('did you mean "process"?',)),
    (put("nodes/explorers/adress", "a"), "nodes.explorers.adress", ('did you mean "address"?',)),
    (put("nodes/explorers/process", {"nice": 3}), "nodes.explorers.process.nice", ("unknown key",)),
    (
        put("nodes/explorers/transport", "carrier-pigeon"),
        "nodes.explorers.transport",
        ("not installed", '"inproc"', "--transport inproc"),
    ),
    (put("nodes/main", {"place": "process"}), "nodes.main.place", ("always the caller's process",)),
    (put("nodes/main", {"count": 2}), "nodes.main.count", ("one process",)),
    (put("nodes/a b", {}), "nodes.a b", ("a name",)),
    # Nodes of other hosts
    (hosts(), "nodes.main.address", ("missing", '"explorers" joins', "[nodes.main] address = ")),
    (hosts(address=7070), "nodes.main.address", ("found 7070", '"tcp://10.0.0.1:7070"')),
    (hosts(address="10.0.0.1:7070"), "nodes.main.address", ('found "10.0.0.1:7070"', '"tcp://10.0.0.1')),
    (hosts(address="tcp://10.0.0.1"), "nodes.main.address", ("an address such as",)),
    (hosts(address="ipc:///tmp/x"), "nodes.main.address", ("an address such as",)),
    (hosts(address="tcp://10.0.0.1:70000"), "nodes.main.address", ("at most 65535",)),
    (hosts(address="tcp://0.0.0.0:7070"), "nodes.main.address", ("all interfaces", "give the one by which")),
    (hosts(address="tcp://[::]:7070"), "nodes.main.address", ("all interfaces",)),
    (hosts(address=MAIN, insecure="yes"), "nodes.main.insecure", ('found "yes"', "true or false")),
    (put("nodes/explorers/address", MAIN), "nodes.explorers.address", ("only main has one", "[nodes.main]")),
    (put("nodes/explorers/insecure", True), "nodes.explorers.insecure", ("only main has one",)),
    (both(hosts(address=MAIN), put("deterministic", True)), "deterministic", ("3 processes",)),
    (
        both(hosts(address=MAIN), put("actors/odd", {"role": local_role()})),
        "actors.odd.role",
        ("defined inside a function", '"explorers" on another host', "top of a module"),
    ),
    (
        both(hosts(address=MAIN), put("actors/odd", {"role": InMain})),
        "actors.odd.role",
        ("InMain is defined in __main__", "can't import it"),
    ),
    (put("groups/core/actors", ["replay", "learnr"]), "groups.core.actors", ('did you mean "learner"?',)),
    (put("groups/core/actors", ["replay", "replay"]), "groups.core.actors", ("is there twice",)),
    (put("groups/more", {"actors": ["replay"]}), "groups.more.actors", ('in the group "core" already',)),
    (put("groups/core/actors", []), "groups.core.actors", ("length at least 1",)),
    (put("groups/more", {}), "groups.more.actors", ("missing",)),
    (put("groups/core/strategy", "one-for-two"), "groups.core.strategy", ('"one-for-one"',)),
    (put("groups/core/backoff_seconds", 60), "groups.core.backoff_seconds", ("above backoff_max_seconds",)),
]


IDS = [f"{number}-{where}" for number, (_, where, _) in enumerate(CASES)]


@pytest.mark.parametrize(("change", "where", "words"), CASES, ids=IDS)
def test_a_wrong_file_is_refused(change: Change, where: str, words: tuple[str, ...]) -> None:
    file = example.hierarchy()
    change(file)
    with pytest.raises(TopologyError) as caught:
        check(file)
    told = [str(problem) for problem in caught.value.problems if problem.where == where]
    assert told, f"no problem at {where}: {caught.value}"
    assert all(any(word in problem for problem in told) for word in words), told


TWOFOLD = {
    "agent.layers[1].width",  # the misspelt key is told, and that the right one is missing
    "actors.learner.ports.replay",  # two ports are wired to what is two now
}


@pytest.mark.parametrize(("change", "where", "words"), CASES, ids=IDS)
def test_one_mistake_is_one_problem(change: Change, where: str, words: tuple[str, ...]) -> None:
    file = example.hierarchy()
    change(file)
    with pytest.raises(TopologyError) as caught:
        check(file)
    assert len(caught.value.problems) <= (2 if where in TWOFOLD else 1), caught.value


def test_all_mistakes_are_reported_at_once() -> None:
    file = example.hierarchy()
    compatible = [
        "stop.env_step",
        "run.every",
        "agent.n_steps",
        "agent.hidden[1]",
        "actors.replay.mailbox.messages",
        "actors.replay.config.alpha",
        "actors.learner.ports.replai",
        "actors.explorer.ports.weights",
        "nodes.explorers.transport",
        "nodes.main.place",
        "groups.more.actors",
        "sede",
        "agnet",
        "backend",
    ]
    chosen = {where: change for change, where, _ in CASES if where in compatible}
    for change in chosen.values():
        change(file)
    with pytest.raises(TopologyError) as caught:
        check(file)
    assert set(compatible) <= {problem.where for problem in caught.value.problems}
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the topology has {len(caught.value.problems)} problems:"
    assert lines[1:] == [f"  {problem}" for problem in caught.value.problems]


def test_deterministic_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "installed_transports", lambda: ["inproc", "nng"])
    file = {**example.hierarchy(), "deterministic": True}
    file["nodes"]["explorers"]["transport"] = "nng"
    with pytest.raises(TopologyError) as caught:
        check(file)
    (problem,) = caught.value.problems
    assert problem.where == "deterministic"
    assert "3 processes" in problem.problem
    assert check(file, transport="inproc").topology.deterministic


def test_unknown_tables_are_reported_even_if_their_role_may_be_the_unknown_one() -> None:
    file = example.hierarchy()
    file["actors"]["replay"]["role"] = "nobody"
    file |= {"memory": {}, "agnet": {}}
    with pytest.raises(TopologyError) as caught:
        check(file)
    places = [problem.where for problem in caught.value.problems]
    assert "agnet" in places
    assert "memory" not in places


def test_one_network_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "installed_transports", lambda: ["inproc", "nng", "pigeon"])
    file = example.hierarchy()
    file["nodes"]["explorers"]["transport"] = "nng"
    file["nodes"]["more"] = {"place": "process", "transport": "pigeon"}
    file["nodes"]["here"] = {"transport": "pigeon"}
    with pytest.raises(TopologyError) as caught:
        check(file)
    (problem,) = caught.value.problems
    assert problem.where == "nodes.more.transport"
    assert '"pigeon", while others are on "nng"' in problem.problem


def test_hosts_without_tls_take_the_package_or_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    file = example.hierarchy()
    hosts(address=MAIN)(file)
    assert [node.place for node in check(file).nodes] == ["here", "host", "host"]
    monkeypatch.setattr(nodes, "find_spec", lambda name: None)
    with pytest.raises(TopologyError, match=r"nodes\.main\.insecure: .*pip install cryptography"):
        check(file)
    hosts(address=MAIN, insecure=True)(file)
    check(file)


def test_over_inproc_a_node_of_another_host_is_here() -> None:
    file = example.hierarchy()
    hosts()(file)
    file["actors"]["odd"] = {"role": local_role()}
    assert len(check(file, transport="inproc").nodes) == 3
