"""Roles: actor classes found by name, among the installed ones or in a module of the user's own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from actorq.actors import actor
from actorq.actors.actor import Actor
from actorq.actors.entry_points import entry_points_of
from actorq.actors.errors import DefinitionError
from actorq.topology.render.describe import show
from actorq.topology.suggest import nearest, quoted, suggestion

ENTRY_POINTS = "actorq.roles"


class RoleError(Exception):
    """No usable actor class has this name: the problem, and a hint or ""."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Role:
    """Description of an installed role."""

    name: str
    path: str
    """`package.module:Class`."""
    summary: str
    """The first line of the class's docstring; for a role that can't be used, the reason."""
    handles: tuple[str, ...]
    ports: tuple[str, ...]
    """Such as `replay: Ref[Insert]`; optional ones end with `| None`."""
    tables: tuple[str, ...]


def installed_roles() -> dict[str, str]:
    """Name to `package.module:Class` of the roles that installed packages offer."""
    return {name: point.value for name, point in entry_points_of(ENTRY_POINTS).items()}


def list_roles() -> list[Role]:
    """The installed roles; imports their modules."""
    return [_in_words(name, path) for name, path in installed_roles().items()]


def _in_words(name: str, path: str) -> Role:
    try:
        cls = find_role(path)
    except RoleError as error:
        return Role(name, path, f"can't be used: {error.problem}", (), (), ())
    definition = cls.definition
    return Role(
        name,
        path,
        (cls.__doc__ or "").strip().partition("\n")[0],
        tuple(message.__name__ for message in definition.handlers),
        tuple(
            f"{port.name}: {port.describe()}" + ("" if port.required else " | None")
            for port in definition.ports.values()
        ),
        tuple(definition.tables),
    )


def find_role(role: str | type, folders: Sequence[str] = ()) -> type[Actor]:
    """The actor class of a role: an installed one's name, `package.module:Class`, or the class itself.

    `folders`, where a user's module is searched, are named in the error. Raises RoleError.
    """
    cls: Any = role if isinstance(role, type) else _class_by_name(role, folders)
    if not (isinstance(cls, type) and issubclass(cls, Actor)):
        raise RoleError(f"{show(role)} is not a subclass of actorq.Actor")
    try:
        cls.definition.complete()
    except DefinitionError as error:
        raise RoleError(str(error)) from None
    config: object = cls.Config  # a user's class may have anything there
    if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        raise RoleError(f"{cls.__qualname__}.Config is not a subclass of actorq.Config")
    for where, kind in {"Config": config, **cls.definition.tables}.items():
        try:
            msgspec.inspect.type_info(kind)
        except Exception as error:  # a user's annotations, some of them resolved only now
            raise RoleError(f"{cls.__qualname__}.{where} has a type that can't be read: {error}") from None
    return cls


def extend_import_path(folders: Sequence[str]) -> None:
    """Put folders at the front of Python's import path, as Python does with a script's own."""
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]


def _class_by_name(role: str, folders: Sequence[str]) -> Any:
    module_name, colon, qualname = role.partition(":")
    if not colon:
        installed = installed_roles()
        if role not in installed:
            hint = suggestion(role, installed, "roles")
            own = "" if nearest(role, installed) else '; a class of your own is "package.module:Class"'
            raise RoleError(f'unknown role "{role}"', hint + own)
        module_name, _, qualname = installed[role].partition(":")
    names = [*module_name.split("."), *qualname.split(".")]
    if not all(name.isidentifier() for name in names):
        raise RoleError(f'"{role}" is not of the form "package.module:Class"')
    module = _import(module_name, folders)
    try:
        return reduce(getattr, qualname.split("."), module)
    except AttributeError:
        classes = [name for name, value in vars(module).items() if _is_actor_class(value)]
        hint = suggestion(qualname, classes, f"actors in {module_name}")
        raise RoleError(f'module {module_name} has no "{qualname}"', hint) from None


def _is_actor_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Actor) and value is not Actor


def _import(name: str, folders: Sequence[str]) -> ModuleType:
    _refuse_namesake(name.partition(".")[0], folders)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise RoleError(f"there is no module {error.name}", _where_looked(error.name, folders)) from None
        raise RoleError(f"module {name} can't be imported: {_reason(error)}") from None
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it runs
        raise RoleError(f"module {name} can't be imported: {_reason(error)}") from None


def _refuse_namesake(top: str, folders: Sequence[str]) -> None:
    """Refuse a module that was imported earlier from elsewhere under the name of one beside the file."""
    beside = PathFinder.find_spec(top, list(folders))
    loaded = sys.modules.get(top)
    if beside is None or beside.origin is None or loaded is None:
        return
    origin = getattr(loaded, "__file__", None)
    if origin is None or Path(origin).resolve() != Path(beside.origin).resolve():
        hint = "rename the file, or start another process"
        raise RoleError(f"{beside.origin} has the name of a module in use, {origin or top}", hint)


def _where_looked(name: str, folders: Sequence[str]) -> str:
    here = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    guess = nearest(name, sorted(here))
    looked = f"looked in {quoted(folders)} and among the installed packages" if folders else "not installed"
    return f'did you mean "{guess}"? ({looked})' if guess else looked


def _reason(error: BaseException) -> str:
    """The error in one line, with the place in the code that raised it."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    # Not the frames of the import system, nor those that read an actor class: the line that caused the error.
    inner = ("<frozen ", __file__, import_module.__code__.co_filename, str(Path(actor.__file__).parent))
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inner)
    ]
    return f"{own[-1].filename}, line {own[-1].lineno}: {words}" if own else words
