"""Topology files that still use the former name of a port or a setting."""

from __future__ import annotations

from typing import ClassVar

import pytest

from actorq.actors import message
from actorq.actors.actor import Actor
from actorq.actors.ref import Ref
from actorq.topology import TopologyError, check, load
from tests.topology.actors import Insert, Replay


class Renamed(Actor):
    class Config(message.Config):
        every_updates: int = 1

    renamed_keys: ClassVar = {
        "ports.store": "ports.replay",
        "ports.learners": "",
        "config.each_updates": "config.every_updates",
    }
    replay: Ref[Insert]


def file(**keys: object) -> dict[str, object]:
    return {"actors": {"replay": {"role": Replay}, "other": {"role": Renamed, **keys}}}


def test_former_keys_are_read_as_the_new_ones() -> None:
    former = file(ports={"store": "replay"}, config={"each_updates": 3})
    (spec,) = (spec for spec in check(former).specs if spec.name == "other")
    assert spec.ports == {"replay": ("replay",)}
    assert spec.config == Renamed.Config(every_updates=3)
    ignored = file(ports={"store": "replay", "learners": "nobody"}, config={"each_updates": 3})
    assert check(ignored).specs == check(former).specs
    assert load(former) == load(file(ports={"replay": "replay"}, config={"every_updates": 3}))


def test_both_names_of_a_key_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"actors.other.ports.store: unknown port"):
        check(file(ports={"store": "replay", "replay": "replay"}))
    with pytest.raises(TopologyError, match=r"actors.other.config.each_updates: unknown key"):
        check(file(ports={"replay": "replay"}, config={"every_updates": 1, "each_updates": 1}))
