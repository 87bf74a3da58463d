"""Lookup of the user's own network class. Free of torch, unless the user's module imports it."""

from __future__ import annotations

import difflib
import importlib
from typing import Any


def load_network_class(path: str) -> Any:
    """The class named `package.module:Class`; importing the module may import torch.

    Raises ValueError, with the nearest right name, if there is no such module or nothing callable of that
    name in it; errors of the module itself are not caught.
    """
    module_name, separator, class_name = path.partition(":")
    if not separator:
        raise ValueError(f"network {path!r} is neither built in nor a 'package.module:Class'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something it imports is not
        raise ValueError(f"network {path!r}: there is no module {error.name!r}") from error
    try:
        made = getattr(module, class_name)
    except AttributeError:
        near = difflib.get_close_matches(class_name, vars(module), n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"network {path!r}: module {module_name!r} has no {class_name!r}{guess}") from None
    if not callable(made):
        raise ValueError(f"network {path!r} is no class but a {type(made).__name__}")
    return made
