"""One run: start, watch, stop, checkpoint, record, report.

The package can be called: `actorq.run(path)` is `actorq.run.open_run.run(path)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`actorq.run` names this package, which Python binds there, and the function that users expect there."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from .open_run import run

        return run(*args, **options)


sys.modules[__name__].__class__ = _Callable
