"""Command-line interface: the subcommands, their arguments and their help.

Each command imports what it needs when it runs, so that `actorq --help` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from actorq import __version__

from .errors import WrongUsage

EXIT_STATUS = (
    "Exit status: 0 it ended as declared; 1 it failed; 2 the arguments, the file or the folder are wrong; "
    "130 interrupted (143 by SIGTERM), after a clean stop and a checkpoint. A second Ctrl-C skips the "
    "checkpoint, a third ends the process at once."
)

NODE_EXIT_STATUS = (
    "Exit status: 0 the run ended; 1 it failed, or refused this host; 2 the arguments or the file are wrong; "
    "130 interrupted (143 by SIGTERM): the run continues, and waits for another host."
)

app = typer.Typer(
    help="Parallel deep Q-learning built from actors. One topology file says who takes part.",
    epilog="Begin with: actorq run hierarchical",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _path(text: str) -> Path:
    """Refuses "", which `Path` takes for the current folder: a script's unset variable never means that."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


File = Annotated[str, typer.Argument(metavar="FILE", help="A topology file, or a recipe's name.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the file, such as agent.n_step=5."),
]
Transport = Annotated[
    str | None, typer.Option(metavar="NAME", help="Put all nodes on this installed transport.")
]


class Backend(StrEnum):
    """Event loops for actors."""

    asyncio = "asyncio"
    trio = "trio"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"actorq {__version__}")
        raise typer.Exit


@app.callback()
def _actorq(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(epilog=EXIT_STATUS)
def run(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A topology file, or a recipe's name.")
    ] = None,
    overrides: Overrides = None,
    transport: Transport = None,
    backend: Annotated[Backend | None, typer.Option(help="The event loop, instead of the file's.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=_path, metavar="DIR", help="The run's folder, instead of runs/<name>-<n>."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            parser=_path,
            metavar="RUN",
            help="Continue from the last checkpoint in this run's folder; with FILE, under that topology.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the summary, one JSON object, on standard output.")
    ] = False,
) -> None:
    """Train: run a topology to its declared end."""
    if file is None and resume is None:
        raise WrongUsage("give a topology file or a recipe's name, or else --resume RUN")
    if resume is not None and out is not None:
        raise WrongUsage("--out: a run that is resumed stays in its own folder")

    from actorq.run.open_run import RunOptions

    from .commands.run import run_topology

    options = RunOptions(
        source=file,
        overrides=tuple(overrides or ()),
        transport=transport,
        backend=backend.value if backend is not None else None,
        out=out,
        resume=resume,
    )
    raise typer.Exit(run_topology(options, json=json))


@app.command(epilog=NODE_EXIT_STATUS)
def node(
    join: Annotated[
        str, typer.Option("--join", metavar="ADDRESS", help="The run's address, such as tcp://10.0.0.1:7070.")
    ],
    secret: Annotated[
        Path, typer.Option(parser=_path, metavar="FILE", help="The run's file join.secret, or a copy of it.")
    ],
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="This host's address for the other nodes, if detection fails."),
    ] = None,
) -> None:
    """Join a run on another host: take a node of its topology, until the run ends."""
    from .commands.node import join_run

    raise typer.Exit(join_run(join, secret, listen))


@app.command()
def check(file: File, overrides: Overrides = None, transport: Transport = None) -> None:
    """Check a topology and list all its problems, or else the memory it needs. Starts nothing."""
    from actorq.topology import check as check_topology
    from actorq.topology import memory_needs

    from .formatting import counted, memory_lines

    plan = check_topology(file, overrides or (), transport=transport)
    actors, nodes = len(plan.specs), len(plan.nodes)
    typer.echo(f"{file} is right: {counted(actors, 'actor')} on {counted(nodes, 'node')}")
    for line in memory_lines(list(memory_needs(plan))):
        typer.echo(line)


@app.command()
def graph(
    file: File,
    overrides: Overrides = None,
    transport: Transport = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart.")] = False,
) -> None:
    """Draw a topology: its actors, their nodes and their connections."""
    from actorq.topology import check as check_topology
    from actorq.topology import draw, to_mermaid

    plan = check_topology(file, overrides or (), transport=transport)
    typer.echo((to_mermaid if mermaid else draw)(plan), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of topology files, for editors to complete and check them with."""
    from json import dumps

    from actorq.topology import json_schema

    typer.echo(dumps(json_schema(), indent=2))


@app.command()
def roles() -> None:
    """List the installed roles: purpose, messages handled, ports and tables of each."""
    from actorq.topology import list_roles

    for role in list_roles():
        typer.echo(f"{role.name}  ({role.path})\n  {role.summary}")
        for title, words in (("handles", role.handles), ("ports", role.ports), ("tables", role.tables)):
            if words:
                typer.echo(f"  {title + ':':9}{', '.join(words)}")
        typer.echo()


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(parser=_path, metavar="RUN", help="The folder of a run.")],
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one of several tasks.")] = None,
    episodes: Annotated[int, typer.Option(min=1, max=10_000, help="Episodes to play, of each task.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed plays the same episodes.")] = 0,
    video: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.mp4", help="Film the first episodes.")
    ] = None,
    gif: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.gif", help="The same as a GIF.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Play the greedy policy of a run's last checkpoint."""
    from .commands.eval import evaluate_run

    evaluate_run(run, task=task, episodes=episodes, seed=seed, video=video, gif=gif, json=json)
