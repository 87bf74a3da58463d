"""Limit of open files: each connection takes one, also an unauthenticated peer's."""

import resource
import subprocess
import sys

import pytest

CODE = (
    "import resource; from actorq.cli import main; main(['--version']); "
    "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
)


@pytest.mark.parametrize(("soft", "hard"), [(128, 512), (512, 512)])
def test_the_limit_is_raised_to_what_is_allowed(soft: int, hard: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    assert ended.stdout.split()[-2:] == ["512", "512"]
