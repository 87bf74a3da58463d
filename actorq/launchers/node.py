"""What a node's process does: it becomes the node, and follows the coordinator of the run."""

from __future__ import annotations

import gc

from actorq.actors import DeliveryLog, LogLayout, Membership, NodeAgent
from actorq.actors.supervision.control_messages import Commands as Order

from .control_stream import ControlStream
from .node_setup import NodeSetup
from .shared_page import map_page

__all__ = ["Order", "live"]

GARBAGE_THRESHOLD = 20_000
"""Python's own is 700 or 2000, by version."""


async def live(setup: NodeSetup, stream: ControlStream) -> None:
    """Be the node until told to leave, or until the stream of orders ends."""
    # Messages come and go by the thousand, without cycles: looking for some took a tenth of the time.
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
        membership=Membership(
            run=setup.run,
            secret=setup.secret,
            incarnation=setup.incarnation,
            folder=setup.folder,
            addresses=setup.addresses,
            tls=setup.tls,
        ),
        delivery_log=delivery_log,
        post=stream.send_soon,
    )
    await node_agent.follow(stream)
