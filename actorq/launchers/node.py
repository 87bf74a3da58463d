"""What a node's process does: it becomes the node, and follows the leader of the run."""

from __future__ import annotations

import gc

from actorq.actors import Follower, Layout, Ledger, Membership
from actorq.actors.supervision.control_messages import Orders as Order

from .control_stream import ControlStream
from .node_setup import NodeSetup
from .shared_page import map_page

__all__ = ["Order", "live"]

GARBAGE_THRESHOLD = 20_000
"""Python's own is 700 or 2000, by version."""


async def live(setup: NodeSetup, stream: ControlStream) -> None:
    """Be the node until told to leave, or until the stream of orders ends."""
    # Letters come and go by the thousand, without cycles: looking for some took a tenth of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    specs = {spec.name: spec for spec in setup.specs}
    ledger = None
    if setup.ledger_fd is not None:
        ledger = Ledger(Layout(specs, setup.node), memoryview(map_page(setup.ledger_fd)))
    follower = Follower(
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
        ledger=ledger,
        post=stream.send_soon,
    )
    await follower.follow(stream)
