"""Pickling of classes, closures and values for a process that this run started, over its inherited pipe.

The only module that pickles. Unpickling runs code: bytes from a socket must never come here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import operator
import pickle
import sys
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec._core import Factory  # type: ignore[import-not-found]

from actorq.actors import ActorqError, Definition, DefinitionError

_NOT_OF_THE_BODY = {
    *("__module__", "__qualname__", "__slots__", "__dict__", "__weakref__", "__orig_bases__"),
    *("_abc_impl", "__abstractmethods__"),
}
_MADE_BY_PYTHON = (types.MemberDescriptorType, types.GetSetDescriptorType)


class PicklingError(ActorqError, TypeError):
    """Something can't be sent to another process; the text names it."""


def pickle_value(value: Any) -> bytes:
    """Bytes from which another process makes the same value.

    Importable functions and classes are sent by name; those of `__main__`, and those local to functions, by
    value with everything they use of it, and keep their names. Raises PicklingError.
    """
    written = io.BytesIO()
    try:
        _pickler()(written).dump_with_names(value)
    except Exception as error:  # the values' own methods may raise anything
        raise PicklingError(f"a {type(value).__qualname__} can't be pickled: {error}") from error
    return written.getvalue()


def unpickle(handed: bytes) -> Any:
    """The value pickled by `pickle_value`. Runs code in the bytes: only for bytes from the process that
    started this one.

    `__main__` gets what the classes and functions of the other's `__main__` use of it. Raises whatever
    importing the named modules raises.
    """
    unpickler = pickle.Unpickler(io.BytesIO(handed))
    value = unpickler.load()
    while names := unpickler.load():
        _main_globals().update(names)
    return value


@cache
def _pickler() -> type[Any]:
    """Made at first use, so that a process that pickles nothing needs no cloudpickle."""
    import cloudpickle  # type: ignore[import-untyped,unused-ignore]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Pickles a value, then the names of `__main__` that it needs, until they need no more."""

        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file)
            self._names: dict[str, Any] = {}
            self._named: set[str] = set()
            # Functions of one `__main__` share its globals in the other process: cloudpickle would copy them.
            self._globals_of_main = _GlobalsOfMain()
            self.globals_ref[id(_main_globals())] = self._globals_of_main

        def dump_with_names(self, value: Any) -> None:
            self.dump(value)
            while self._names:
                names, self._names = self._names, {}
                self.dump(names)
            self.dump({})

        def reducer_override(self, obj: Any) -> Any:
            if obj is self._globals_of_main:
                return _main_globals, ()
            if isinstance(obj, Definition):
                return _reduce_definition(obj)
            if isinstance(obj, msgspec.Meta):
                return _make_meta, (_public(obj),)
            if isinstance(obj, typing.ForwardRef):
                self._name(_names_in(obj))
            elif isinstance(obj, type) and not _is_importable(obj):
                if obj.__module__ == "__main__":
                    self._name([obj.__qualname__, *_names_in_annotations(obj)])
                if issubclass(obj, msgspec.Struct):
                    return _reduce_struct(obj)
            return super().reducer_override(obj)

        def _name(self, names: list[str]) -> None:
            """Include these names of `__main__`, which annotations refer to as text."""
            for name in names:
                if name in _main_globals() and name not in self._named:
                    self._named.add(name)
                    self._names[name] = _main_globals()[name]

    return Pickler


class _GlobalsOfMain(dict[str, Any]):
    """Replacement of the other process's `__main__` namespace."""


def _main_globals() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def _is_importable(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    if module is None or cls.__module__ == "__main__":
        return False
    try:
        return operator.attrgetter(cls.__qualname__)(module) is cls
    except AttributeError:
        return False


def _names_in_annotations(cls: type) -> list[str]:
    return [name for annotation in inspect.get_annotations(cls).values() for name in _names_in(annotation)]


def _names_in(annotation: Any) -> list[str]:
    return list(_walk(annotation))


def _walk(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse(annotation, mode="eval")):
                if isinstance(node, ast.Name):
                    yield node.id
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield from _walk(node.value)
    elif typing.get_origin(annotation) is not Literal:
        for argument in typing.get_args(annotation):
            yield from _walk(argument)


def _reduce_definition(definition: Definition) -> tuple[Any, ...]:
    """A definition with its late names resolved, since the scopes that define them are not sent."""
    with suppress(DefinitionError):  # reported when the class is used, as here
        definition.complete()
    given = (definition.handlers, definition.ports, definition.tables, definition.unresolved)
    return Definition, (definition.cls, [], *given)


def _public(obj: Any) -> dict[str, Any]:
    """The attributes of one of msgspec's own objects, from which it can be made again."""
    return {name: getattr(obj, name) for name in dir(obj) if not name.startswith("_")}


def _make_meta(given: dict[str, Any]) -> msgspec.Meta:
    return msgspec.Meta(**given)


# Structs. Plain cloudpickle makes an empty class and fills it afterwards, which msgspec takes for one without
# fields. So the fields come first, and anything that may refer to the class itself is added once it exists.


class _Late:
    """Placeholder of a function that msgspec needs when it makes a class."""

    function: Callable[..., Any]

    def __call__(self, *given: Any) -> Any:
        return self.function(*given)


_LateFunctions = list[tuple[_Late, Any]]


def _reduce_struct(cls: type[msgspec.Struct]) -> tuple[Any, ...]:
    late: _LateFunctions = []
    annotations = inspect.get_annotations(cls)
    fields = {name: _declared(cls, name, late) for name in annotations if name in cls.__struct_fields__}
    body = {name: value for name, value in vars(cls).items() if _is_of_the_body(name, value)}
    body["__annotations__"] = annotations
    namespace: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if "__post_init__" in body:
        namespace["__post_init__"] = _late(body["__post_init__"], late)
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    made_of = (type(cls), cls.__name__, bases, _options(cls, list(fields)), fields, namespace)
    return _make_struct, made_of, (body, late), None, None, _fill_struct


def _declared(cls: type[msgspec.Struct], name: str, late: _LateFunctions) -> dict[str, Any]:
    """The arguments of a field's `msgspec.field`, given or implied."""
    place = cls.__struct_fields__.index(name)
    encoded, from_end = cls.__struct_encode_fields__[place], place - len(cls.__struct_fields__)
    defaults = cls.__struct_defaults__
    default = defaults[from_end] if -from_end <= len(defaults) else msgspec.NODEFAULT
    given: dict[str, Any] = {} if encoded == name else {"name": encoded}
    if isinstance(default, Factory):
        given["default_factory"] = _late(default.factory, late)
    elif default is not msgspec.NODEFAULT:
        given["default"] = default
    return given


def _late(function: Any, late: _LateFunctions) -> Any:
    if not isinstance(function, types.FunctionType):
        return function
    late.append((_Late(), function))
    return late[-1][0]


def _options(cls: type[msgspec.Struct], own_fields: list[str]) -> dict[str, Any]:
    """The class statement's keywords, as they took effect."""
    options = _public(cls.__struct_config__)
    if options["tag"] is None:  # as an option, None would mean as in the bases
        options["tag"] = False
        del options["tag_field"]
    parameters = inspect.signature(cls).parameters
    kinds = {parameters[name].kind for name in own_fields if name in parameters}
    return {**options, "kw_only": inspect.Parameter.KEYWORD_ONLY in kinds}


def _is_of_the_body(name: str, value: Any) -> bool:
    return name not in _NOT_OF_THE_BODY and not isinstance(value, _MADE_BY_PYTHON)


def _make_struct(
    metaclass: type,
    name: str,
    bases: tuple[Any, ...],
    options: dict[str, Any],
    fields: dict[str, dict[str, Any]],
    namespace: dict[str, Any],
) -> type:
    """The class with its fields, for now by names and defaults only."""
    with suppress(ImportError):  # its annotations are resolved there
        importlib.import_module(namespace["__module__"])
    namespace["__annotations__"] = dict.fromkeys(fields, Any)
    for field, given in fields.items():
        if given:
            namespace[field] = msgspec.field(**given)
    return types.new_class(
        name, bases, {"metaclass": metaclass, **options}, lambda into: into.update(namespace)
    )


def _fill_struct(cls: type, rest: tuple[dict[str, Any], _LateFunctions]) -> None:
    body, late = rest
    for name, value in body.items():
        setattr(cls, name, value)
    for stand_in, function in late:
        stand_in.function = function
