"""What a right topology may lack all the same: a device of this machine, a checkpoint that is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from actorq.actors import State
from actorq.actors.spec import ActorSpec
from actorq.topology import Plan, TopologyError
from actorq.topology.faults import Faults
from actorq.topology.schema import INPROC
from actorq.topology.tables import add_told

from .checkpoint import CheckpointError


def check_machine(plan: Plan) -> None:
    """Raises TopologyError with all that actors ask of this machine in vain."""
    faults = Faults()
    elsewhere = {node.name for node in plan.nodes if node.place == "host" and node.transport != INPROC}
    for spec in plan.specs:
        if spec.node not in elsewhere:
            _add(spec, partial(spec.cls.machine_faults, spec.config, spec.tables), faults)
    if faults:
        raise TopologyError(faults.found(), f"{plan.topology.name}, on this machine,")


def check_states(plan: Plan, states: Mapping[str, State], path: Path) -> None:
    """Raises CheckpointError with all for which the checkpoint at `path` can't be gone on from."""
    faults = Faults()
    for spec in plan.specs:
        state = states.get(spec.name)
        if state:
            _add(spec, partial(spec.cls.state_faults, spec.config, spec.tables, state), faults)
        if spec.cls.one_state and spec.index == 0:
            _check_count(spec, states, faults)
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults.found())
        raise CheckpointError(f"{path}: the topology can't go on from it:{lines}")


def _check_count(spec: ActorSpec, states: Mapping[str, State], faults: Faults) -> None:
    group = spec.name.partition(".")[0]
    saved = sum(name.partition(".")[0] == group for name in states)
    if saved and saved != spec.count:
        faults.add(f"actors.{group}.count", f"is {spec.count}, but the state was saved in {saved} parts")


def _add(spec: ActorSpec, tell: Callable[[], Iterable[tuple[str, str]]], faults: Faults) -> None:
    where = f"actors.{spec.name.partition('.')[0]}"

    def place(key: str) -> str:
        return key if key.partition(".")[0] in spec.tables else f"{where}.{key}"

    add_told(tell, place, where, faults)
