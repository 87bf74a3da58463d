"""Optional compilation of networks by torch.compile."""

from __future__ import annotations

import os
import warnings
from shutil import which
from typing import TYPE_CHECKING, Annotated, Literal, cast

from msgspec import Meta

if TYPE_CHECKING:
    from torch import nn

Compile = Annotated[
    Literal["off", "default", "reduce-overhead"],
    Meta(
        description="torch.compile of the networks that are learned with: seconds at the start, and less time"
        " for each update where it pays; reduce-overhead records CUDA graphs on a GPU"
    ),
]
"""A setting; `missing_compiler` checks whether this machine supports it."""


def missing_compiler() -> str | None:
    """The problem, if torch would find no C++ compiler here; free of torch."""
    named = os.environ.get("CXX")
    if any(map(which, [named] if named else ["g++", "clang++", "c++"])):
        return None
    missing = named or "g++"
    return f"torch compiles with a C++ compiler, and {missing} is not found; install it, or use off"


def compiled(module: nn.Module, mode: Compile) -> nn.Module:
    """The module, with the same parameters, compiled when it is first run with inputs of a kind.

    With "off" it is the module itself. Results differ by rounding.
    """
    if mode == "off":
        return module
    import torch
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # here, not in child processes, which would save one second
    with warnings.catch_warnings():  # warnings of torch about its own code while it loads the compiler
        warnings.simplefilter("ignore", DeprecationWarning)
        return cast("nn.Module", torch.compile(module, mode=mode))


def begin_step(mode: Compile) -> None:
    """Call this before the first run of an update: results of the previous update become invalid."""
    if mode == "reduce-overhead":
        import torch

        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
