"""Log forwarding: a node's records are logged by the same logger of the run, with node and actor."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextvars import ContextVar

import anyio
import pytest
from anyio.abc import UNIXSocketStream

from actorq.actors.runtime import scheduler as scheduling
from actorq.launchers import log_forwarding as logs
from actorq.launchers.control_stream import ControlStream
from actorq.launchers.log_forwarding import Forwarding, Logged, levels_in_force, relog

from .processes import running
from .small_node import Do


@pytest.fixture
def forwarding() -> Iterator[Forwarding]:
    """What a child has; here it runs in the tests' own process, where pytest listens as well."""
    root = logging.getLogger()
    level = root.level
    forwarding = Forwarding("explorers.0", {"": logging.INFO, "chatty": logging.ERROR})
    yield forwarding
    forwarding.close()
    root.setLevel(level)
    logging.getLogger("chatty").setLevel(logging.NOTSET)


async def sent(forwarding: Forwarding) -> list[Logged]:
    """All that was logged so far, as it comes out of the stream."""
    ours, theirs = socket.socketpair()
    child = ControlStream(await UNIXSocketStream.from_socket(ours), Logged)
    parent = ControlStream(await UNIXSocketStream.from_socket(theirs), Logged)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forwarding.serve, child)
        await forwarding.flushed()
        tasks.start_soon(child.serve)
        await child.flush()
        tasks.cancel_scope.cancel()
    await child.aclose()
    came = [logged async for logged in parent]
    await parent.aclose()
    return came


@pytest.mark.anyio
async def test_a_nodes_records_come_home(anyio_backend: str) -> None:
    """From the loop, from threads, from the warnings module; what its logger lets through."""
    async with running(anyio_backend, log_levels={"": logging.INFO, "little": logging.INFO}) as node:
        await node.stream.send(Do("log_from_everywhere"))
        await node.stream.send(Do("end"))
        came = [node_event async for node_event in node.stream if isinstance(node_event, Logged)]
    assert [(logged.logger, logged.level) for logged in came] == [
        ("little.node", logging.INFO),
        ("py.warnings", logging.WARNING),
        ("little.node", logging.ERROR),
    ]
    thread, warning, error = came
    assert thread.text == "from a thread"
    assert "UserWarning: take care" in warning.text
    assert error.text == "no such thing \\udc80"
    assert error.traceback.rstrip().endswith("KeyError: 'gone'")
    assert {logged.node for logged in came} == {"explorers.1"}


@pytest.mark.anyio
async def test_the_logging_actor_is_named(forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = ContextVar("actor", default="")
    monkeypatch.setattr(scheduling, "current_actor", actor, raising=False)
    logging.getLogger("x").info("nobody")
    actor.set("replay")
    logging.getLogger("x").info("replay")
    logging.getLogger("chatty").warning("too low")
    came = await sent(forwarding)
    assert [(logged.actor, logged.node) for logged in came] == [
        ("", "explorers.0"),
        ("replay", "explorers.0"),
    ]


@pytest.mark.anyio
async def test_too_many_at_once_are_dropped_and_counted(
    forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING_BYTES", 100)
    log = logging.getLogger("x")
    for number in range(10):
        log.info("%d %s", number, "x" * 60)
    first = await sent(forwarding)
    assert [logged.text[0] for logged in first] == ["0"]
    log.info("afterwards")
    assert [(logged.logger, logged.text) for logged in await sent(forwarding)] == [
        (
            "actorq.launchers.log_forwarding",
            "9 log records of this node were dropped: there were too many at once",
        ),
        ("x", "afterwards"),
    ]


def test_a_record_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    relog(Logged("some.where", logging.ERROR, "100 % wrong", "Traceback: …", 12.25, "explorers.0", "replay"))
    relog(Logged("some.where", logging.DEBUG, "not wanted", "", 12.25, "explorers.0", "replay"))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("some.where", "ERROR")
    assert record.getMessage() == "100 % wrong\nTraceback: …"
    assert (record.created, record.msecs) == (12.25, 250.0)
    assert (vars(record)["node"], vars(record)["actor"]) == ("explorers.0", "replay")


def test_levels_in_force_are_those_that_were_set() -> None:
    logger = logging.getLogger("levels.of.this.test")
    logging.getLogger("levels.of.another.test")
    logger.setLevel(logging.ERROR)
    levels = levels_in_force()
    logger.setLevel(logging.NOTSET)
    assert levels["levels.of.this.test"] == logging.ERROR
    assert levels[""] == logging.getLogger().level
    assert "levels.of.another.test" not in levels
