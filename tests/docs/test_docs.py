"""The documentation is true: its Python runs, its topologies check, its outputs, tables and links are right.

A page's blocks are tried in order, in an empty folder:

- `python` runs; all of a page is one program. If its first line is `# NAME.py` it is that file, beside the
  others, and is imported. A `text` block right behind it is what it prints, … standing for anything.
- `toml` is a topology that checks. With a `name` it is whole; otherwise its tables are laid over those of
  recipes/hierarchical.toml. `toml wrong` has the problems that the `text` block right behind it lists. If its
  first line is `# NAME.toml` it is that file; `# pyproject.toml` installs its entry points from the folder.
- `console` shows commands behind `$ `. Those of actorq are run if their output is shown; otherwise, and of
  `actorq run` and `actorq eval` in any case, only the arguments are tried.
- `python recipes/custom_parts.py` is a part of that file, word for word, and not tried by itself.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module, invalidate_caches
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from actorq import cli
from actorq.cli.app import app
from actorq.run.records.summary import Summary
from actorq.topology import TopologyError, check

from . import reference
from .pages import PAGES, ROOT, Block, anchors, blocks, links

BASE = ROOT / "recipes" / "hierarchical.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty one to work in; what is imported meanwhile is gone afterwards."""
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_hold(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", program)
    if page.name != "algorithm.md":
        hold(page, folder, program)
        return
    # The struct of `[agent]` is made from the algorithms that a process finds when it starts.
    for block in blocks(page):
        if block.file == "pyproject.toml":
            install(tomllib.loads(block.text), folder)
        elif block.file is not None:
            Path(block.file).write_text(block.text)
    script = (
        "import sys; from pathlib import Path; from tests.docs.test_docs import hold;"
        f"hold(Path({str(page)!r}), Path.cwd(), sys.modules['__main__'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)


def hold(page: Path, folder: Path, program: ModuleType) -> None:
    """Raises AssertionError for a block that isn't true."""
    found = list(blocks(page))
    for block, behind in zip_longest(found, found[1:]):
        says = behind.text if behind is not None and behind.language == "text" else None
        where = f"{page.name}, line {block.line}"
        if block.language in ("python", "toml") and block.words not in ("", "wrong"):
            text = (ROOT / block.words).read_text(encoding="utf-8")
            assert block.text.strip() in text, f"{where}: {block.words} has no such lines"
        elif block.language == "python":
            printed = run(block, page, program)
            assert not printed or says is not None, f"{where}: prints what the page doesn't show: {printed}"
            if says is not None:
                hold_to(printed, says, where)
        elif block.language == "toml":
            told = problems(block, folder)
            assert told or block.words != "wrong", f"{where}: nothing is wrong with it"
            if block.words == "wrong" and says is not None:
                hold_to(told, says, where)
            else:
                assert not told or block.words == "wrong", f"{where}: {told}"
        elif block.language == "console":
            for command, output in commands(block):
                typed(command, output, f"{where}: {command}")


def run(block: Block, page: Path, program: ModuleType) -> str:
    """Run it, and answer what it prints; tracebacks show the page's own lines."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        if block.file is not None:
            Path(block.file).write_text(block.text)
            import_module(block.file.removesuffix(".py"))
        else:
            code = compile("\n" * (block.line - 1) + block.text, page, "exec")
            exec(code, vars(program))
    return printed.getvalue()


def problems(block: Block, folder: Path) -> str:
    """What `check` has to say against a topology, or nothing."""
    tables = tomllib.loads(block.text)
    source: Any = tables
    if block.file == "pyproject.toml":
        install(tables, folder)
        return ""
    if block.file is not None:
        source = folder / block.file
        source.write_text(block.text)
    elif "name" not in tables:
        base = tomllib.loads(BASE.read_text())
        if "network" in tables.get("agent", {}):
            del base["agent"]["hidden"]  # widths of the network that this one replaces
        source = laid_over(base, tables)
    try:
        check(source)
    except TopologyError as error:
        return str(error).replace(f"{folder}/", "")
    return ""


def install(tables: Mapping[str, Any], folder: Path) -> None:
    """Have the entry points of a package found in the folder, as `pip install` would."""
    project = tables["project"]
    offered = {value.split(":")[0] for names in project["entry-points"].values() for value in names.values()}
    assert offered == set(tables["tool"]["setuptools"]["py-modules"]), "pip would not install its modules"
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for group, names in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    invalidate_caches()


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command, and what is shown of its output."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.partition("#")[0].strip(), output


def typed(command: str, shown: str, where: str) -> None:
    """Run a command and hold what it prints to what the page shows; if that is nothing, try its arguments."""
    words = shlex.split(command.partition(">")[0])
    if words[:1] != ["actorq"]:
        return
    if shown and words[1] not in ("run", "eval"):
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            cli.main(words[1:])
        hold_to(printed.getvalue(), shown, where)
    else:
        group: Any = get_command(app)
        group.commands[words[1]].make_context(words[1], words[2:])


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping) and key != "config":
            both[key] = laid_over(below[key], above[key])
    return both


def hold_to(found: str, shown: str, where: str) -> None:
    pattern = ".*".join(re.escape(part) for part in shown.rstrip().split("…"))
    if not re.fullmatch(pattern, found.rstrip(), re.DOTALL):
        pytest.fail(f"{where}: says\n{found}\nand not\n{shown}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: there is no {path}"
        if anchor:
            assert target.suffix == ".md", f"{link}: {path} has no headings"
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_key_is_described() -> None:
    text = reference.PAGE.read_text(encoding="utf-8")
    assert reference.shown(text) == reference.STRUCTS.keys()
    assert text == reference.written(text), "run python -m tests.docs.reference"


def test_every_role_and_port_is_described() -> None:
    text = reference.PAGE.read_text(encoding="utf-8")
    for name, role in reference.ROLES.items():
        assert f"### {name}" in text
        for port in role.definition.ports.values():
            assert f"`{port.name}: {port.describe()}`" in text, f"{name}: {port.name}"


def test_every_metric_is_explained() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    sources = [path.read_text() for path in (ROOT / "actorq" / "roles").rglob("*.py")]
    made = {
        name
        for source in sources
        for name in re.findall(r"self\.(?:report|progress|observe)\(\"(\w+)\"", source)
    }
    keys = {field.name for field in msgspec.structs.fields(Summary)}
    assert made
    assert {name for name in made | keys if f"`{name}`" not in text} == set()


def test_every_recipe_is_in_the_readme() -> None:
    linked = set(links(ROOT / "README.md"))
    assert {f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.toml")} <= linked
