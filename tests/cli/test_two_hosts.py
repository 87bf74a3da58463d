"""Two network namespaces joined by a veth pair in place of two hosts: the steps of docs/hosts.md."""

from __future__ import annotations

import json
import secrets
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorq.launchers.host.join_token import read_join_token

from .command import HERE, Going, setting

MAIN, FAR = "10.77.0.1", "10.77.0.2"
SECRET = Path("run", "join.secret")


class TwoHosts:
    """`main` and `far` run a command there."""

    def __init__(self) -> None:
        self._names = [f"actorq-{secrets.token_hex(3)}" for _ in range(2)]
        self.main, self.far = (["ip", "netns", "exec", name] for name in self._names)

    def set_up(self) -> None:
        """Raises CalledProcessError or OSError where that isn't allowed."""
        main, far = self._names
        ip(f"netns add {main}")
        ip(f"netns add {far}")
        ip(f"link add wire netns {main} type veth peer name wire netns {far}")
        for name, address in ((main, MAIN), (far, FAR)):
            ip(f"-n {name} address add {address}/24 dev wire")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} link set wire up")

    def pull_the_plug(self) -> None:
        ip(f"-n {self._names[1]} link set wire down")

    def plug_in(self) -> None:
        ip(f"-n {self._names[1]} link set wire up")

    def tear_down(self) -> None:
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def ip(arguments: str) -> None:
    subprocess.run(["ip", *shlex.split(arguments)], capture_output=True, check=True, text=True)


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    made = TwoHosts()
    try:
        try:
            made.set_up()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system lets us make no network namespaces: {error.stderr.strip()}")
        except OSError as error:
            pytest.skip(f"network namespaces take the command ip: {error}")
        yield made
    finally:
        made.tear_down()


def joining(cwd: Path) -> tuple[str, ...]:
    address = read_join_token(cwd / SECRET).address
    return ("node", "--join", address, "--secret", str(SECRET))


@pytest.mark.slow
def test_the_recipes_groups_on_another_host(hosts: TwoHosts, tmp_path: Path) -> None:
    changed = setting(
        f'nodes.main.address="tcp://{MAIN}:7070"',
        'nodes.edge.place="host"',
        "stop.env_steps=20000",
    )
    run = ("run", "hierarchical", "--transport", "nng", "--out", "run", *changed)
    with Going(*run, cwd=tmp_path, within=hosts.main) as coordinator:
        coordinator.until(
            f"waiting for 3 nodes: actorq node --join tcp://{MAIN}:7070 --secret run/join.secret"
        )
        assert read_join_token(tmp_path / SECRET).tls is not None
        with (
            Going(*joining(tmp_path), cwd=tmp_path, within=hosts.far) as one,
            Going(*joining(tmp_path), cwd=tmp_path, within=hosts.far) as two,
            Going(*joining(tmp_path), cwd=tmp_path, within=hosts.far) as three,
        ):
            for _ in range(3):
                coordinator.until(f"is at {FAR}:")
            status, _, errors = coordinator.end()
            assert status == 0, errors
            assert [host.end()[0] for host in (one, two, three)] == [0, 0, 0]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["env_steps"] >= 20_000
    assert summary["updates"] > 0
    assert (summary["restarts"], summary["dead_letters"]) == (0, 0)


@pytest.mark.slow
def test_a_cable_that_is_pulled(hosts: TwoHosts, tmp_path: Path) -> None:
    """The run sees it in time, and the host comes back by itself once it can."""
    where = setting(f'nodes.main.address="tcp://{MAIN}:7070"')
    with Going("run", HERE / "hosts.toml", "--out", "run", *where, cwd=tmp_path, within=hosts.main) as run:
        run.until("waiting for 1 node")
        with Going(*joining(tmp_path), cwd=tmp_path, within=hosts.far) as far:
            run.until("stepping")
            hosts.pull_the_plug()
            run.until("node far was lost with its host")
            assert "no heartbeat for 1.5 s" in run.seen
            hosts.plug_in()
            far.until("the connection to the run at tcp://10.77.0.1:7070 was lost: joining again")
            run.until("stepping")
            run.send(signal.SIGINT)
            assert run.end()[0] == 130
            assert far.end()[0] == 0
