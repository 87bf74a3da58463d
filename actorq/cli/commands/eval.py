"""`actorq eval`: play a run's learned policy, print the returns, film episodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import msgspec
import numpy as np
from numpy.typing import NDArray

from actorq.cli.errors import WrongUsage
from actorq.cli.formatting import counted
from actorq.run.playback import (
    Image,
    LearnedPolicy,
    PlaybackError,
    film,
    images_per_second,
    load_learned,
    play_greedily,
    value_map,
)

# Environments draw with pygame in memory: it must neither need a screen nor greet on standard output.
_PYGAME = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """What `actorq eval --json` prints; for several tasks one by task name. The names are stable."""

    run: str
    updates: int
    """Optimizer steps of the parameters played."""
    seed: int
    episodes: int
    returns: list[float]
    return_mean: float
    return_std: float


def evaluate_run(
    run: Path, *, task: str | None, episodes: int, seed: int, video: Path | None, gif: Path | None, json: bool
) -> None:
    """Play and print all tasks or one.

    Raises what `load_learned` raises, PlaybackError, and WrongUsage for a film's path or an unknown task.
    """
    films = [path for path in (video, gif) if path is not None]
    _check_films(video, gif)
    for name, value in _PYGAME.items():
        os.environ.setdefault(name, value)
    with (
        redirect_stdout(sys.stderr) if json else nullcontext()
    ):  # output printed by environments would corrupt the JSON
        learned = _chosen(load_learned(run), task, filming=bool(films))
        one = next(iter(learned.values()))
        filmed = anyio.run(_film, one, episodes, seed, films) if films else np.empty(0)
        returns = {name: anyio.run(play_greedily, policy, episodes, seed) for name, policy in learned.items()}
    if json:
        found = {name: _evaluation(run, policy, seed, returns[name]) for name, policy in learned.items()}
        print(msgspec.json.encode(found if len(found) > 1 else found.popitem()[1]).decode())
    else:
        print("\n\n".join(_returns_text(policy, returns[name]) for name, policy in learned.items()))
        for path in films:
            shown = ", ".join(f"{value:g}" for value in filmed)
            print(f"{path}: {counted(len(filmed), 'episode')}, return {shown}")


def _chosen(
    learned: dict[str, LearnedPolicy], task: str | None, *, filming: bool
) -> dict[str, LearnedPolicy]:
    """All tasks, or the named one."""
    names = ", ".join(learned)
    if task is not None and task not in learned:
        raise WrongUsage(f"--task {task}: the run has learned {names}")
    if task is None and filming and len(learned) > 1:
        raise WrongUsage(f"a film is of one task: add --task, with one of {names}")
    return learned if task is None else {task: learned[task]}


def _evaluation(run: Path, learned: LearnedPolicy, seed: int, returns: NDArray[np.float64]) -> EvalResult:
    return EvalResult(
        run=str(run),
        updates=learned.updates,
        seed=seed,
        episodes=len(returns),
        returns=returns.tolist(),
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
    )


def _returns_text(learned: LearnedPolicy, returns: NDArray[np.float64]) -> str:
    lines = [f"{learned.task.env}, greedily, after {counted(learned.updates, 'update')} ({learned.actor})"]
    lines += [f"  episode {number:>3}   return {value:g}" for number, value in enumerate(returns, 1)]
    lines.append(f"mean return {returns.mean():.2f} ± {returns.std():.2f}")
    drawn = value_map(learned)
    return "\n".join([*lines, drawn] if drawn else lines)


def _check_films(video: Path | None, gif: Path | None) -> None:
    for option, path, suffix in (("--video", video, ".mp4"), ("--gif", gif, ".gif")):
        if path is None:
            continue
        if path.suffix != suffix:
            raise WrongUsage(f"{option} {path}: the file's name must end in {suffix}")
        if not path.parent.is_dir():
            raise WrongUsage(f"{option} {path}: there is no folder {path.parent}")
        if find_spec("imageio") is None or (suffix == ".mp4" and find_spec("imageio_ffmpeg") is None):
            raise WrongUsage(f"{option} needs imageio: pip install 'actorq[video]'")


async def _film(learned: LearnedPolicy, episodes: int, seed: int, paths: list[Path]) -> NDArray[np.float64]:
    per_second = images_per_second(learned.task)
    with ExitStack() as files:
        writers = [files.enter_context(_film_file(path, per_second)) for path in paths]

        def show(image: Image) -> None:
            for writer in writers:
                writer.append_data(image)

        return await film(learned, episodes, seed, show)


@contextmanager
def _film_file(path: Path, per_second: float) -> Iterator[Any]:
    """An imageio writer of this file; an error in the block removes the unfinished file."""
    import imageio.v2

    options: dict[str, Any] = {"duration": 1000 / per_second, "loop": 0}
    if path.suffix == ".mp4":
        options = {"fps": per_second, "macro_block_size": 2}  # any even size, not multiples of 16 only
    try:
        path.open("wb").close()  # imageio opens it only at the end, and once more if it could not
    except OSError as error:
        raise PlaybackError(f"{path}: can't be written: {error.strerror}") from error
    try:
        with imageio.v2.get_writer(path, **options) as writer:
            yield writer
    except BaseException:
        path.unlink(missing_ok=True)
        raise
