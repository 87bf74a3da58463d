"""Environment lookup: a name in `[task]` is an id of gymnasium's registry, or the user's own class."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .task import TaskError

Factory = Callable[..., Any]

# Collections of environments that are registered on demand: namespace -> (module, extra of actorq).
_EXTRAS = {"ALE": ("ale_py", "atari"), "MinAtar": ("minatar", "minatar")}

gymnasium.register(
    id="actorq/GridWorld-v0",
    entry_point="actorq.envs.gridworld:GridWorld",
    vector_entry_point="actorq.envs.gridworld:GridWorldVector",
    max_episode_steps=100,
    disable_env_checker=True,
)


def find(name: str) -> EnvSpec | Factory:
    """The registered specification of `name`, or the class or factory it names as "package.module:Name".

    Imports the module of the latter, and the package of ALE/ and MinAtar/ environments. Raises `TaskError`
    with the nearest right names, or the extra to install.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon:
        return _registered(name)
    module = _imported(module_name, name)
    found = getattr(module, attribute, None)
    if callable(found):
        factory: Factory = found
        return factory
    if attribute in gymnasium.registry:  # gymnasium's own "module:Env-v0": importing the module registered it
        return _registered(attribute)
    callables = [key for key, value in vars(module).items() if callable(value)]
    raise TaskError(
        "env", f"{module_name} has no class or function {attribute!r}{_nearest(attribute, callables)}"
    )


def _registered(name: str) -> EnvSpec:
    _register_extra(name)
    spec = gymnasium.registry.get(name)
    if isinstance(spec, EnvSpec):
        return spec
    raise TaskError(
        "env", f"gymnasium knows no environment {name!r}{_nearest(name, list(gymnasium.registry))}"
    )


def _register_extra(name: str) -> None:
    namespace = name.partition("/")[0]
    if "/" not in name or namespace not in _EXTRAS:
        return
    package, extra = _EXTRAS[namespace]
    if importlib.util.find_spec(package) is None:
        raise TaskError(
            "env", f"{name} needs {package}, which is not installed: pip install 'actorq[{extra}]'"
        )
    if namespace == "ALE":
        importlib.import_module("ale_py")  # registers its games when imported
    elif "MinAtar/Breakout-v1" not in gymnasium.registry:
        importlib.import_module("minatar.gym").register_envs()


def _imported(module_name: str, name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A missing import of the user's module is another problem, shown with its own traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise TaskError(
            "env", f"{name!r} names the module {module_name!r}, but there is no {error.name!r}"
        ) from None


def _nearest(name: str, known: list[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)
    return "; the nearest: " + ", ".join(by_lower[match] for match in near) if near else ""
