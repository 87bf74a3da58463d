"""The contract of launchers, tried with `process`; docs/contributing/launcher.md tries it with another."""

from __future__ import annotations

from typing import Literal

import pytest

from actorq.testing.launcher_contract import check_launcher


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_processes_keep_the_contract(backend: Literal["asyncio", "trio"]) -> None:
    check_launcher("process", backend)
