"""Drawings of a topology for terminals."""

from __future__ import annotations

from actorq.topology import Plan, check, draw, to_mermaid
from tests.topology import actors as example

PICTURE = """\
hierarchy  ·  seed 7  ·  asyncio
stops when solved (mean return 475 over 20 episodes), or at 200,000 env_steps

┌ main  (the caller's process, inproc) ──────────────────────────────────────┐
│ replay  ·  Replay                                                          │
│                                                                            │
│ learner  ·  Learner                                                        │
│    replay       ──▶  replay                   Sample                       │
│    weights      ──▶  explorer × 4, evaluator  Weights                      │
│                                                                            │
│ evaluator  ·  Evaluator                                                    │
│    weights      ◀──  learner                  Weights                      │
│                                                                            │
│ watcher  ·  Watcher                                                        │
│    all_replays  ──▶  replay                   Insert, Sample               │
│    heat         ──▶  none                     Heat                         │
└────────────────────────────────────────────────────────────────────────────┘
┌ explorers × 2  (the caller's process, inproc) ─────────────────────────────┐
│ explorer × 4  ·  Explorer                                                  │
│    replay       ──▶  replay                   Insert                       │
│    weights      ◀──  learner                  Weights                      │
└────────────────────────────────────────────────────────────────────────────┘
group core (rest-for-one): replay, learner
"""

FLOWCHART = """\
flowchart LR
  subgraph node0["main"]
    actor_replay["replay<br/>Replay"]
    actor_learner["learner<br/>Learner"]
    actor_evaluator["evaluator<br/>Evaluator"]
    actor_watcher["watcher<br/>Watcher"]
  end
  subgraph node1["explorers × 2"]
    actor_explorer["explorer × 4<br/>Explorer"]
  end
  actor_learner -- "Sample" --> actor_replay
  actor_explorer -- "Insert" --> actor_replay
  actor_learner -. "Weights" .-> actor_explorer
  actor_learner -. "Weights" .-> actor_evaluator
  actor_watcher -- "Insert, Sample" --> actor_replay
"""


IN_A_GROUP = """\
┌ main  (the caller's process, inproc) ──────────────────────────────────────┐
│ ┌ edge × 3 ──────────────────────────────────────────────────────────────┐ │
│ │ replay  ·  Replay                                                      │ │
│ │                                                                        │ │
│ │ learner  ·  Learner                                                    │ │
│ │    replay       ──▶  replay                   Sample                   │ │
│ │    weights      ──▶  explorer × 2, evaluator  Weights                  │ │
│ └────────────────────────────────────────────────────────────────────────┘ │
│                                                                            │
│ evaluator  ·  Evaluator                                                    │
│    weights      ◀──  learner × 3              Weights                      │
│                                                                            │
│ watcher  ·  Watcher                                                        │
│    all_replays  ──▶  replay × 3               Insert, Sample               │
│    heat         ──▶  none                     Heat                         │
└────────────────────────────────────────────────────────────────────────────┘
┌ explorers × 3  (the caller's process, inproc) ─────────────────────────────┐
│ ┌ edge × 3 ──────────────────────────────────────────────────────────────┐ │
│ │ explorer × 2  ·  Explorer                                              │ │
│ │    replay       ──▶  replay                   Insert                   │ │
│ │    weights      ◀──  learner                  Weights                  │ │
│ └────────────────────────────────────────────────────────────────────────┘ │
└────────────────────────────────────────────────────────────────────────────┘
group edge × 3 (one-for-all): replay, learner, explorer
"""

IN_A_GROUP_FLOWING = """\
flowchart LR
  subgraph node0["main"]
    subgraph node0part0["edge × 3"]
      actor_replay["replay<br/>Replay"]
      actor_learner["learner<br/>Learner"]
    end
    actor_evaluator["evaluator<br/>Evaluator"]
    actor_watcher["watcher<br/>Watcher"]
  end
  subgraph node1["explorers × 3"]
    subgraph node1part0["edge × 3"]
      actor_explorer["explorer × 2<br/>Explorer"]
    end
  end
"""


def plan_of_classes() -> Plan:
    file = example.hierarchy()
    for actor in file["actors"].values():
        actor["role"] = getattr(example, actor["role"].partition(":")[2])
    return check(file)


def test_picture() -> None:
    assert draw(plan_of_classes()) == PICTURE


def test_flowchart() -> None:
    assert to_mermaid(plan_of_classes()) == FLOWCHART


def test_a_repeated_group_is_drawn_once_on_each_node() -> None:
    plan = check(example.edges(3, explorers=3))
    assert draw(plan).partition("\n\n")[2] == IN_A_GROUP
    assert to_mermaid(plan).startswith(IN_A_GROUP_FLOWING)


def test_subscribers_of_a_publisher_outside_are_counted_over_all_instances() -> None:
    file = example.edges(3)
    file["groups"]["edge"]["actors"] = ["replay", "explorer"]
    file["actors"]["learner"] |= {"role": example.Announcer, "ports": {}, "snapshot_every": {"updates": 1}}
    drawing = draw(check(file))
    assert "weights      ──▶  explorer × 6, evaluator" in drawing
    assert "weights      ◀──  learner  " in drawing


def test_a_lone_actor_and_an_empty_node() -> None:
    plan = check(
        {
            "deterministic": True,
            "nodes": {"spare": {"place": "process"}},
            "actors": {"loner": {"role": example.Loner}},
        }
    )
    assert draw(plan).splitlines()[:2] == [
        "run  ·  seed 0  ·  asyncio  ·  deterministic",
        "stops on request",
    ]
    assert "│ no actors " in draw(plan)
