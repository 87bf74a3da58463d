"""`actorq node --join`: refusals on both sides, and its end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from actorq.cli import main
from actorq.launchers.host.certificates import make_certificates
from actorq.launchers.host.join_token import JoinToken, read_join_token, write_join_token

from .command import HERE, SECONDS, Going, command, setting

HOSTS = HERE / "hosts.toml"
SECRET = Path("run", "join.secret")

WRONG_FILES = {
    "missing": ("can't be read: No such file", None, 0),
    "shared": ("others may read it, and join the run: chmod 600", b"{}", 0o640),
    "empty": ("is not the join token of a run", b"", 0o600),
    "json": ("is not the join token of a run", b'{"run": 3}', 0o600),
    "bytes": ("is not the join token of a run", b"\xff\xfe\x00", 0o600),
    "short": ("is not the join token of a run", b'{"run":"r","address":"a","secret":"00"}', 0o600),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Of a run that is nowhere."""
    path = tmp_path / "some.secret"
    write_join_token(path, JoinToken(run="r", address="tcp://127.0.0.1:1", secret="ab" * 32))
    return path


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, content, mode = WRONG_FILES[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    assert main(["node", "--join", "tcp://127.0.0.1:1", "--secret", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"actorq: {path}: {words}")
    assert "Traceback" not in told


def test_wrong_arguments(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--join", "10.0.0.1:7070", "--secret", str(secret)], 'an address such as "tcp://10.0.0.1:7070"'),
        (["--join", "tcp://10.0.0.1:70700", "--secret", str(secret)], "a port is at most 65535"),
        (["--join", "tcp://10.0.0.1:7070"], "Missing option '--secret'"),
        (["--secret", str(secret)], "Missing option '--join'"),
    ):
        assert main(["node", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_an_address_without_a_listener(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--join", "tcp://127.0.0.1:1", "--secret", str(secret)]) == 1
    assert "no run can be joined at tcp://127.0.0.1:1: Connection refused" in capsys.readouterr().err


def joined(secret: Path, cwd: Path, *, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command to its end, in an interpreter that has run `code` before."""
    words = command("node", "--join", read_join_token(secret).address, "--secret", secret.absolute())
    if code:
        words[1:3] = ["-c", f"{code}; import sys; from actorq.cli import main; sys.exit(main())"]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, timeout=SECONDS)


def test_hosts_that_are_refused_disturb_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    shutil.copy(HERE / "toy.py", theirs)
    shutil.copy(HOSTS, ours)
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    limit = setting("stop.env_steps=500")
    with Going("run", "hosts.toml", "--out", "run", *limit, cwd=ours) as run:
        run.until("waiting for 1 node: actorq node --join tcp://127.0.0.1:")
        monkeypatch.delenv("PYTHONPATH")
        join_token = read_join_token(ours / SECRET)
        assert (ours / SECRET).stat().st_mode & 0o777 == 0o600
        copy = tmp_path / "copied.secret"

        def refused(cwd: Path, words: str, code: str = "", **changed: object) -> None:
            write_join_token(copy, msgspec.structs.replace(join_token, **changed))
            ended = joined(copy, cwd, code=code)
            assert ended.returncode == 1, ended.stderr
            assert f"actorq: {words}" in ended.stderr
            assert "Traceback" not in ended.stderr

        here = join_token.address
        refused(theirs, f"{here} refuses this host: the peer doesn't know", secret="00" * 32)
        refused(theirs, f"{here} and this host have certificates of different runs", tls=make_certificates())
        refused(theirs, f"no run can be joined at {here}: ", tls=None)
        refused(
            theirs,
            f"{here} refuses this host: the run is coordinated by",
            "import actorq; actorq.__version__='9'",
        )
        run.until("a host wants to join by actorq 9")
        refused(tmp_path, "the topology can't run on this host: the topology has 1 problem:")
        run.until("there is no module toy")

        ended = joined(copy, theirs)
        assert ended.returncode == 0, ended.stderr
        status, _, errors = run.end()
    assert status == 0, errors
    assert "reached env_steps" in errors + run.seen or (ours / "run" / "summary.json").exists()
    assert not (ours / SECRET).exists()


def test_interrupted_and_killed(tmp_path: Path) -> None:
    """Ctrl-C at a host leaves the run waiting; a run that is killed leaves no host behind."""
    with Going("run", HOSTS, "--out", "run", cwd=tmp_path) as run:
        run.until("waiting for 1 node")
        host = ("node", "--join", read_join_token(tmp_path / SECRET).address, "--secret", SECRET)
        with Going(*host, cwd=tmp_path) as first:
            first.until("stepping")
            first.send(signal.SIGINT)
            assert first.end()[0] == 130
        run.until("waiting for node far: actorq node --join")
        with Going(*host, cwd=tmp_path) as second:
            second.until("stepping")
            run.send(signal.SIGKILL)
            status, _, errors = second.end()
            assert status == 1
            assert "no run can be joined at" in errors
            assert "Connection refused" in errors


def test_help_names_the_statuses() -> None:
    shown = subprocess.run([sys.executable, "-m", "actorq", "node", "--help"], capture_output=True, text=True)
    assert "130 interrupted" in shown.stdout.replace("\n", " ")
