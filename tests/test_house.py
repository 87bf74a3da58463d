"""The source tree keeps its structure: unique class names, small folders, roles apart, no import circle, no
retired word. docs/glossary.md has the words in use."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES
from tests.test_layers import ROOT, imported, package_of, sources

MOST_MODULES = 15
"""Of one folder, without its `__init__`."""

SHARED_BETWEEN_ROLES = {"messages", "client"}
"""Modules in a folder of roles/ that its other folders may import."""

CIRCLES: list[set[str]] = [
    {"actorq.actors.actor", "actorq.actors.spec"},
]
"""Modules that import each other; docs/architecture.md has the reasons. Only ever gets smaller."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


RETIRED = _set(
    "bell buried bury crossing decider desk enquiry feeding follower gathering guest handing "
    "invitation judge judged lane leader ledger letter life lives neighbour nurse patience presence "
    "rescue siege slope stranger tasked tidings turnstile weighed whereabouts"
)
"""Words that names in code don't have any more, nor their plurals."""

RETIRED_IN_PROSE = RETIRED - {"buried", "gathering", "judge", "judged", "life", "lives", "slope", "patience"}
"""Retired words that plain English has no other use for here; a changelog names former names."""


def python_files() -> list[Path]:
    return sorted({*(file for file, _ in sources()), *(ROOT / "tests").rglob("*.py")} - {Path(__file__)})


@cache
def one_by_one(name: str) -> frozenset[str]:
    """The lower-case words of a snake_case or CamelCase name, plurals in the singular as well."""
    found = frozenset(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))
    return found | {word.removesuffix("s") for word in found}


def retired_names(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, name, word) of each name that has a retired word; dead letters are none."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            for word in RETIRED & one_by_one(re.sub(r"(?i)dead_?letter", "", token.string)):
                yield token.start[0], token.string, word


def retired_prose(text: str) -> Iterator[tuple[int, str]]:
    """(line, word) of each retired word in a text; dead letters, and those of an alphabet, are none."""
    spared = re.sub(r"(?i)dead([-_\s#]*)letter|letters(, digits)", r"\1\2", text)
    for number, line in enumerate(spared.splitlines(), 1):
        for name in re.findall(r"[A-Za-z]+", line):
            for word in RETIRED_IN_PROSE & one_by_one(name):
                yield number, word


def comments(source: str) -> str:
    """Strings and comments alone, on their lines."""
    lines = defaultdict[int, list[str]](list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                lines[number].append(line)
    return "\n".join(" ".join(lines[number]) for number in range(1, max(lines, default=0) + 1))


def foreign_imports(tree: ast.Module, package: str) -> Iterator[str]:
    """What a module of roles/ imports of another system that isn't meant for it: `replay.dataset`."""
    system = package.split(".")[2:3]
    for _, name, _ in imported(tree, package):
        other = name.split(".")[2:4]
        foreign = name.startswith("actorq.roles.") and other[:1] not in (system, ["common"])
        if foreign and other[-1] not in SHARED_BETWEEN_ROLES:
            yield ".".join(other)


def circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which leads to all others of its group by its imports."""
    reached = {module: _reached(module, imports) for module in imports}
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in imports if a in reached[a]}
    return [set(group) for group in groups if len(group) > 1]


def _reached(module: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [module]
    while ahead:
        new = imports[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def imports_by_module() -> dict[str, set[str]]:
    trees: dict[str, tuple[ast.Module, str]] = {}
    for file, package in sources():
        name = package if file.stem == "__init__" else f"{package}.{file.stem}"
        trees[name] = ast.parse(file.read_text()), package
    return {
        module: {
            owner
            for _, name, _ in imported(tree, package)
            for owner in [name if name in trees else name.rpartition(".")[0]]
            if owner in trees and owner != module
        }
        for module, (tree, package) in trees.items()
    }


def test_no_class_name_twice() -> None:
    homes = defaultdict[str, list[str]](list)
    for file in (ROOT / "actorq").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and node.name != "Config":
                homes[node.name].append(str(file.relative_to(ROOT)))
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert not twice


def test_no_folder_of_many_modules() -> None:
    counts = defaultdict[Path, int](int)
    for file, _ in sources():
        counts[file.parent] += file.stem != "__init__"
    assert not {str(folder) for folder, count in counts.items() if count > MOST_MODULES}


def test_roles_import_only_messages_and_clients_of_each_other() -> None:
    found = {
        (file.parent.name, name)
        for file in (ROOT / "actorq/roles").glob("*/**/*.py")
        for name in foreign_imports(ast.parse(file.read_text()), package_of(file, ROOT))
    }
    assert not found


def test_no_import_circle_but_those_with_a_reason() -> None:
    found = circles(imports_by_module())
    assert [circle for circle in found if not any(circle <= known for known in CIRCLES)] == []


def test_no_retired_name() -> None:
    found = [
        f"{file.relative_to(ROOT)}, line {line}: {name}"
        for file in python_files()
        for line, name, _ in retired_names(file.read_text())
    ]
    assert not found, "\n".join(found)
    stems = [file for file in python_files() if RETIRED & one_by_one(file.stem)]
    assert not stems


def test_no_retired_word_in_prose() -> None:
    texts = {page: page.read_text() for page in PAGES if page.name != "CHANGELOG.md"}
    texts |= {file: comments(file.read_text()) for file in python_files()}
    found = [
        f"{file.relative_to(ROOT)}, line {line}: {word}"
        for file, text in texts.items()
        for line, word in retired_prose(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["Letter", "letters", "DeadLetterLane", "_lanes", "its_nurse", "LANES"])
def test_a_retired_name_is_found(name: str) -> None:
    assert list(retired_names(f"{name} = 1"))


@pytest.mark.parametrize(
    "name", ["DeadLetter", "dead_letters", "planes", "belly", "alive", "lifetime", "guesses"]
)
def test_other_names_pass(name: str) -> None:
    assert not list(retired_names(f"{name} = 1"))


def test_a_retired_word_is_found_in_prose() -> None:
    assert list(retired_prose("a dead\nletter, and\nits Neighbours")) == [(3, "neighbour")]


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


def test_a_foreign_import_is_found() -> None:
    tree = ast.parse("from actorq.roles.replay.shard import A\nfrom actorq.roles.replay.client import B")
    assert list(foreign_imports(tree, "actorq.roles.learner")) == ["replay.shard"]
