"""Parallel deep Q-learning built from actors.

`import actorq` loads nothing else: each public name comes from its module at first use (PEP 562),
so a program that only declares actors never waits for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME: dict[str, str] = {  # public name -> the module that defines it
    **dict.fromkeys(
        (
            "Actor",
            "ActorDied",
            "ActorFailed",
            "ActorqError",
            "CircularWait",
            "Config",
            "DeadLetter",
            "DefinitionError",
            "Fatal",
            "Feed",
            "Group",
            "Message",
            "MessageTooLarge",
            "NotCarried",
            "Ref",
            "Refused",
            "Request",
            "State",
            "Stopping",
            "Table",
            "Topic",
            "handles",
        ),
        "actorq.actors",
    ),
    **dict.fromkeys(("Topology", "TopologyError", "load"), "actorq.topology"),
    **dict.fromkeys(("Progress",), "actorq.run.records.recorder"),
    **dict.fromkeys(("Summary",), "actorq.run.records.summary"),
    **dict.fromkeys(("Run", "RunFailed", "open_run"), "actorq.run.open_run"),
    "run": "actorq.run",  # a package that can be called
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOME[name])
    value = home if name == "run" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
