"""Run folders: a number each, no file overwritten."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actorq.run.records.folder import RunFolder, RunFolderError, write_atomically


def test_each_run_gets_the_next_number(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert [RunFolder.create(root, "demo").path.name for _ in range(2)] == ["demo-1", "demo-2"]
    (root / "demo-10").mkdir()
    (root / "demo-x").mkdir()
    (root / "other-99").mkdir()
    assert RunFolder.create(root, "demo").path.name == "demo-11"
    assert RunFolder.create(root, "demo-1").path.name == "demo-1-1"


def test_runs_that_start_at_once_share_no_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(tmp_path, "demo").path, range(64)))
    assert len(set(folders)) == 64


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert RunFolder.at(out).path == out
    assert RunFolder.at(out).path == out, "still empty"
    (out / "notes.txt").touch()
    with pytest.raises(RunFolderError, match=r"out: is not empty \(it holds notes.txt\)$"):
        RunFolder.at(out)
    (out / "topology.toml").touch()
    with pytest.raises(RunFolderError, match=r"to continue the run in it: --resume .*out"):
        RunFolder.at(out)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunFolderError, match="file: is a file; a run needs a folder"):
        RunFolder.at(file)
    with pytest.raises(RunFolderError, match="no run folder can be made here"):
        RunFolder.create(file, "demo")
    with pytest.raises(RunFolderError, match="no run folder can be made here"):
        RunFolder.at(file / "below")


def test_only_a_runs_folder_is_opened(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="missing: no such folder"):
        RunFolder.open(tmp_path / "missing")
    with pytest.raises(RunFolderError, match=r"holds no topology.toml: not a run's folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "topology.toml").touch()
    assert RunFolder.open(tmp_path).summary == tmp_path / "summary.json"


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, b"old")

    def crash(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", crash)
        with pytest.raises(OSError, match="no space left"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old", "who reads meanwhile reads all of it"
    assert path.read_bytes() == b"new"
