"""One run: start, watch, stop, checkpoint, record, report.

The package can be called: `actorq.run(path)` is `actorq.run.open_run.run(path)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Module class that makes `actorq.run` both this package and the function `actorq.run(path)`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from .open_run import run

        return run(*args, **options)


sys.modules[__name__].__class__ = _Callable
