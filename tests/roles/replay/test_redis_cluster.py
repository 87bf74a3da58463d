"""Shards in a real Redis Cluster of three nodes, one of which is killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from actorq.actors import ActorFailed, System
from actorq.replay.ids import shard_offset
from actorq.replay.redis.config import Place
from actorq.replay.redis.store import RedisStore
from tests.actors.world import AT_ONCE
from tests.replay.redis.redis_servers import LittleRedis
from tests.roles.actors import Watch

from .redis_shards import DrawBatch, in_redis, insert

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SLOTS = 16384


def free_ports() -> Iterator[int]:
    """Whose bus ports, 10000 above, are free, too."""
    for port in range(21_000, 50_000, 7):
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        yield port


class LittleCluster:
    """Three nodes with a third of the slots each. It takes them a while to agree on that."""

    def __init__(self, folder: Path) -> None:
        ports = list(islice(free_ports(), 3))
        self.nodes = [
            LittleRedis(
                folder / f"node{number}",
                port=port,
                bind="127.0.0.1",
                cluster_enabled="yes",
                cluster_node_timeout=2000,
                appendonly="yes",
                appendfsync="always",
            )
            for number, port in enumerate(ports)
        ]
        for number, node in enumerate(self.nodes):
            slots = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for port in ports[1:]:
            self.nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", port)
        self.url = f"redis://127.0.0.1:{ports[0]}"

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LittleCluster]:
    made = LittleCluster(tmp_path)
    yield made
    made.stop()


async def expect_right(system: System, numbers: dict[int, int]) -> None:
    """What is drawn is what was inserted, by the ids acknowledged."""
    batch: Any = (await system.ref("reader").ask(DrawBatch(256))).batch
    assert batch.actions.tolist() == [numbers[i] for i in batch.ids.tolist()]
    np.testing.assert_array_equal(batch.observations[:, 0], batch.actions)


async def test_every_node_is_asked_what_it_does_when_it_is_full(cluster: LittleCluster) -> None:
    node = cluster.nodes[2].client
    node.config_set("maxmemory", "100mb")
    node.config_set("maxmemory-policy", "allkeys-lru")
    with anyio.fail_after(50), pytest.raises(ActorFailed, match="set noeviction there"):
        async with System(in_redis(url=cluster.url), AT_ONCE, reports=Watch()):
            raise AssertionError("it has started")
    for number, each in enumerate(cluster.nodes):
        each.client.config_set("maxmemory-policy", "noeviction")
        each.client.config_set("maxmemory", (number + 1) * 10_000_000)
    store = RedisStore(Place(cluster.url, None, "run:replay.0", 0))
    assert store.memory() == 60_000_000
    store.close()


async def test_a_cluster_holds_shards_and_loses_nothing_with_a_node(cluster: LittleCluster) -> None:
    watch = Watch()
    numbers: dict[int, int] = {}

    async def fill(system: System, begin: int) -> None:
        for start in range(begin, begin + 400, 10):
            for shard in range(2):
                number = 10_000 * shard + start
                first = (await system.ref(f"replay.{shard}").ask(insert(10, number))).first_id
                numbers.update({shard_offset(shard) + first + i: number + i for i in range(10)})

    with anyio.fail_after(50):
        async with System(in_redis(2, url=cluster.url), AT_ONCE, reports=watch) as system:
            await fill(system, 0)
            await expect_right(system, numbers)
            assert all(len(node.keys()) > 20 for node in cluster.nodes)
            cluster.nodes[1].kill()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fill, system, 400)
                await watch.readings.has(("redis_down", 1.0))
                cluster.nodes[1].start()
            await expect_right(system, numbers)
            assert len(numbers) == 1600
            assert system.statistics().restarts == 0
    assert not any(node.keys() for node in cluster.nodes), "nothing was to be kept"
