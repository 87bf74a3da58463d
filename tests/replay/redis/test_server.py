"""The run's own Redis server: private, kept or not, and ended with its starter."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import redis

from actorq.replay.redis import server as module
from actorq.replay.redis.server import RedisServerProcess, ServerError, find_server

pytestmark = pytest.mark.anyio

STARTER = """
import anyio, sys
from pathlib import Path
from actorq.replay.redis.server import RedisServerProcess

async def main():
    server = RedisServerProcess(keep=Path(sys.argv[1]), append_sync="always")
    await server.start()
    print(server.pid, server._process._reaper.pid, server.url, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
async def server() -> AsyncIterator[RedisServerProcess]:
    made = RedisServerProcess()
    yield made
    await made.stop()


def client(server: RedisServerProcess) -> redis.Redis:
    return redis.Redis.from_url(server.url)


async def test_only_its_user_may_reach_it(server: RedisServerProcess) -> None:
    await server.start()
    folder = Path(server.url.removeprefix("unix://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with client(server) as connected:
        assert connected.config_get("port")["port"] == "0"
        assert connected.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    pid = server.pid
    await server.stop()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_long_path_of_temporary_files_is_avoided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    server = RedisServerProcess()
    try:
        await server.start()
        with client(server) as connected:
            assert connected.ping()
    finally:
        await server.stop()


async def test_it_starts_again_on_the_same_socket(server: RedisServerProcess) -> None:
    await server.start()
    url, pid = server.url, server.pid
    os.kill(pid, signal.SIGKILL)
    assert "ready to accept" in await server.ended()
    await server.start()
    assert server.url == url
    assert server.pid != pid
    with client(server) as connected:
        assert connected.ping()


async def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    for turn in range(3):
        server = RedisServerProcess(keep=tmp_path / "kept", append_sync="always")
        await server.start()
        with client(server) as connected:
            assert connected.get("turn") == (str(turn - 1).encode() if turn else None)
            connected.set("turn", turn)
        if turn == 1:
            os.kill(server.pid, signal.SIGKILL)
        await server.stop()


async def test_a_kept_folder_has_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    first, second = RedisServerProcess(keep=tmp_path), RedisServerProcess(keep=tmp_path)
    await first.start()
    with pytest.raises(ServerError, match=f"in use .* process {first.pid}"):
        await second.start()
    monkeypatch.setattr(module, "LOCK_SECONDS", 30.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.start)  # waits until the first has ended
        await anyio.wait_all_tasks_blocked()
        await first.stop()
    with client(second) as connected:
        assert connected.ping()
    await second.stop()


async def test_it_reports_why_it_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "appendonly.aof").write_text("this is no append-only file")
    server = RedisServerProcess(keep=tmp_path)
    with pytest.raises(ServerError, match=r"(?i)bad file format"):
        await server.start()
    await server.stop()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert find_server() is None
    server = RedisServerProcess()
    with pytest.raises(ServerError, match="actorq\\[redis\\]"):
        await server.start()
    await server.stop()


async def test_cancelled_while_it_starts_it_ends(server: RedisServerProcess) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await server.start()
    await server.stop()


@pytest.mark.parametrize("victim", ["starter", "reaper"])
async def test_a_kill_of_its_starter_leaves_nothing_behind(tmp_path: Path, victim: str) -> None:
    starter = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", STARTER, str(tmp_path / "kept")], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert starter.stdout is not None
    pid, reaper, url = starter.stdout.readline().decode().split()
    server, reaper_end = os.pidfd_open(int(pid)), os.pidfd_open(int(reaper))
    with redis.Redis.from_url(url) as connected:
        connected.set("key", "value")
    os.kill(starter.pid if victim == "starter" else int(reaper), signal.SIGKILL)
    for ended in (server, reaper_end):
        await anyio.wait_readable(ended)
        os.close(ended)
    folder = Path(url.removeprefix("unix://")).parent
    assert folder.exists() == (victim == "reaper"), "a killed reaper can't clean up"
    shutil.rmtree(folder, ignore_errors=True)
    starter.kill()
    starter.wait()
    starter.stdout.close()
    again = RedisServerProcess(keep=tmp_path / "kept")
    await again.start()
    with client(again) as connected:
        assert connected.get("key") == b"value"
    await again.stop()
