"""Main task of a node's process: runs the node's actors by the coordinator's commands."""

from __future__ import annotations

import gc

from actorq.actors import DeliveryLog, LogLayout, NodeAgent
from actorq.actors.supervision.control_messages import Commands

from .control_stream import ControlStream
from .node_setup import NodeSetup
from .shared_page import map_page

__all__ = ["Commands", "run_node"]

GARBAGE_THRESHOLD = 20_000
"""First threshold of the garbage collector; Python's own is 700 or 2000, by version."""


async def run_node(setup: NodeSetup, stream: ControlStream) -> None:
    """Run the node until commanded to leave, or until the stream of commands ends."""
    # Messages are freed by reference counting: the search for cycles among them took a tenth of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    specs = {spec.name: spec for spec in setup.specs}
    delivery_log = None
    if setup.delivery_log_fd is not None:
        delivery_log = DeliveryLog(LogLayout(specs, setup.node), memoryview(map_page(setup.delivery_log_fd)))
    node_agent = NodeAgent(
        specs,
        setup.node,
        transport=setup.transport(),
        membership=setup.membership,
        delivery_log=delivery_log,
        post=stream.send_soon,
    )
    await node_agent.follow(stream)
