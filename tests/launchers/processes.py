"""Starts small node processes, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import anyio

from actorq.actors import Membership
from actorq.actors.wire.state_codec import StateValue
from actorq.launchers.node_setup import NodeSetup
from actorq.launchers.process import guarded_process as process
from actorq.launchers.process.guarded_process import GuardedProcess
from actorq_inproc import InprocTransport

from .small_node import Do, Done, NodeEvent


def setup_of(backend: Any, **given: Any) -> NodeSetup:
    return NodeSetup(
        **{
            "node": "explorers.1",
            "membership": Membership(run="run", secret=b"s" * 32, incarnation=1, folder="/nowhere"),
            "transport": InprocTransport,
            "backend": backend,
            "specs": (),
            "threads": 1,
            **given,
        }
    )


async def start(backend: str, **given: Any) -> GuardedProcess:
    with mock.patch.object(process, "NODE_COMMAND", ("-P", "-m", "tests.launchers.small_node")):
        return await GuardedProcess.start(setup_of(backend, **given), NodeEvent)


@asynccontextmanager
async def running(backend: str, **given: Any) -> AsyncIterator[GuardedProcess]:
    """A process being served; killed at the end if it still runs."""
    node = await start(backend, **given)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node.serve)
            yield node
            tasks.cancel_scope.cancel()
    finally:
        await node.aclose()


async def ask(node: GuardedProcess, what: str, value: Any = None) -> Any:
    await node.stream.send(Do(what, StateValue(value)))
    return await answer(node)


async def answer(node: GuardedProcess) -> Any:
    async for node_event in node.stream:
        if isinstance(node_event, Done):
            assert node_event.value is not None
            return node_event.value.value
    raise AssertionError(f"the node ended: {await node.ended()}")
