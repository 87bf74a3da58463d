"""Shared-memory arena: blocks are unchanged while lent, released once, and reused."""

import errno
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from numpy.typing import NDArray

from actorq.actors.wire.session.shm_arena import ShmArena, ShmMapping

KIB = 1024


def sealed(nbytes: int, seed: int = 0) -> NDArray[np.uint8]:
    array = np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)
    array.flags.writeable = False
    return array


def ignore(offset: int) -> None:
    pass


def backed_bytes(arena: ShmArena) -> int:
    """The memory that the arena takes."""
    return os.fstat(arena.fd).st_blocks * 512


@pytest.fixture
def arena() -> Iterator[ShmArena]:
    arena = ShmArena(256 * KIB)
    yield arena
    arena.close()


@pytest.fixture
def window(arena: ShmArena) -> Iterator[ShmMapping]:
    window = ShmMapping(os.getpid(), arena.fd)
    yield window
    window.close()


class Lease(NamedTuple):
    reader: str
    offset: int
    source: weakref.ref[NDArray[np.uint8]]
    view: NDArray[np.uint8]
    copy: bytes


class LentMemory(RuleBasedStateMachine):
    """Three readers of one arena; the twin is a list of leases, each with a copy of what was placed."""

    LIMIT = 64 * KIB
    arrays = Bundle[NDArray[np.uint8]]("arrays")
    sizes = st.integers(1, 20 * KIB) | st.sampled_from([64, 8 * KIB, 16 * KIB, LIMIT])
    readers = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.arena = ShmArena(self.LIMIT)
        self.window = ShmMapping(os.getpid(), self.arena.fd)
        self.lent: list[Lease] = []
        self.let_go: list[tuple[str, int]] = []
        self.seed = 0

    def blocks(self) -> dict[int, int]:
        """Offset -> end of each block that anyone holds."""
        return {lease.offset: lease.offset + -(-len(lease.copy) // 64) * 64 for lease in self.lent}

    @rule(target=arrays, nbytes=sizes)
    def make(self, nbytes: int) -> NDArray[np.uint8]:
        self.seed += 1
        return sealed(nbytes, self.seed)

    @rule(array=arrays, reader=readers)
    def place(self, array: NDArray[np.uint8], reader: str) -> None:
        self.lend(array, reader)

    @rule(array=consumes(arrays), reader=readers)
    def place_for_the_last_time(self, array: NDArray[np.uint8], reader: str) -> None:
        self.lend(array.view(), reader)  # an object that dies while its block is lent

    def lend(self, array: NDArray[np.uint8], reader: str) -> None:
        before = self.blocks()
        same = {lease.offset for lease in self.lent if lease.source() is array}
        offset = self.arena.place(array, reader)
        if offset is None:
            assert not same
            edges = [0, *(edge for block in sorted(before.items()) for edge in block), self.LIMIT]
            free = max(end - start for start, end in zip(edges[::2], edges[1::2], strict=True))
            assert free < array.nbytes, "refused although there is room"
            return
        assert offset % 64 == 0
        if same:
            assert same == {offset}, "copied again"
        else:
            end = offset + array.nbytes
            assert all(end <= start or stop <= offset for start, stop in before.items()), "lent out twice"
        memory = self.window.view(offset, array.nbytes, lambda offset: self.let_go.append((reader, offset)))
        view = np.ndarray(array.shape, array.dtype, memory)
        self.lent.append(Lease(reader, offset, weakref.ref(array), view[:][:], bytes(array)))

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if not self.lent:
            return
        reader, offset = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))[:2]
        assert self.let_go == [(reader, offset)]
        self.arena.freed(*self.let_go.pop())

    @rule(reader=readers)
    def die(self, reader: str) -> None:
        self.arena.forget(reader)
        self.lent = [lease for lease in self.lent if lease.reader != reader]
        for late in self.let_go:
            assert late[0] == reader
            with pytest.raises(ValueError, match="not lent"):
                self.arena.freed(*late)
        self.let_go.clear()

    @invariant()
    def what_is_lent_is_as_it_was(self) -> None:
        assert not self.let_go
        for lease in self.lent:
            assert bytes(lease.view) == lease.copy
        assert backed_bytes(self.arena) <= self.LIMIT

    def teardown(self) -> None:
        for lease in self.lent:
            self.arena.freed(lease.reader, lease.offset)
        self.lent.clear()
        assert self.arena.place(sealed(self.LIMIT), "a") == 0, "some of it was never free again"
        self.window.close()
        self.arena.close()


TestLentMemory = LentMemory.TestCase
TestLentMemory.settings = settings(max_examples=60, stateful_step_count=40)


def test_weights_for_eight_readers_are_copied_once(arena: ShmArena) -> None:
    weights = sealed(128 * KIB)
    assert [arena.place(weights, reader) for reader in range(8)] == [0] * 8
    assert backed_bytes(arena) == 128 * KIB
    for reader in range(7):
        arena.freed(reader, 0)
    assert arena.place(sealed(256 * KIB), "other") is None
    arena.freed(7, 0)
    assert arena.place(sealed(256 * KIB), "other") == 0


def test_another_array_of_the_same_id_is_not_the_same(arena: ShmArena, window: ShmMapping) -> None:
    first = sealed(64)
    key, offset = id(first), arena.place(first, "reader")
    del first
    others: list[NDArray[np.uint8]] = []
    while id(other := sealed(64, len(others) + 1)) != key:
        others.append(other)
        assert len(others) < 1000, "no array took the id of the one before: this shows nothing"
    again = arena.place(other, "reader")
    assert again is not None
    assert again != offset
    assert bytes(window.view(again, 64, ignore)) == bytes(other)
    assert offset is not None
    arena.freed("reader", offset)
    assert arena.place(other, "reader") == again


@pytest.mark.parametrize(("least", "worst"), [(500, 1.0), (400, 2.0), (100, 2.0)])
def test_steady_traffic_takes_the_same_memory_again(least: int, worst: float) -> None:
    """Three blocks at a time, of one size or of many: pages for about as much, whatever passes through."""
    arena = ShmArena(256 * 2**20)
    generator = np.random.default_rng(1)
    lent: list[int] = []
    for _ in range(300):
        if len(lent) == 3:
            arena.freed("reader", lent.pop(0))
        offset = arena.place(sealed(int(generator.integers(least, 501)) * KIB), "reader")
        assert offset is not None
        lent.append(offset)
    assert backed_bytes(arena) <= worst * 3 * 500 * KIB
    arena.close()


@pytest.mark.parametrize("derive", [
    lambda memory: np.frombuffer(memory, np.float32),
    lambda memory: np.ndarray((16,), np.float32, memory),
    lambda memory: np.asarray(memory).view(np.float32),
    lambda memory: np.ndarray((4, 4), np.float32, np.frombuffer(memory, np.uint8)).T[1:],
    lambda memory: memory[8:],
    lambda memory: np.frombuffer(np.frombuffer(memory, np.uint8)[8:].data[8:]),
    lambda memory: np.frombuffer(memory, np.uint8)[4:][4:].view(np.recarray)[4:],
])  # fmt: skip
def test_let_go_comes_once_with_the_last_view(
    arena: ShmArena, window: ShmMapping, derive: Callable[[memoryview], Any]
) -> None:
    assert arena.place(sealed(64), "reader") == 0
    let_go: list[int] = []
    derived = derive(window.view(0, 64, let_go.append))
    views = [derived, derived[1:], np.asarray(derived)[1:][1:]]
    while views:
        assert let_go == []
        derived = views.pop(0)[1:]
    assert let_go == []
    del derived
    assert let_go == [0]
    gc.collect()
    assert let_go == [0]


def test_let_go_comes_in_the_thread_of_the_last_view(arena: ShmArena, window: ShmMapping) -> None:
    arena.place(sealed(64), "reader")
    let_go: list[int | None] = []
    views = [np.frombuffer(window.view(0, 64, lambda _: let_go.append(threading.get_ident())))]
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert let_go == [thread.ident]


def test_views_are_read_only(arena: ShmArena, window: ShmMapping) -> None:
    arena.place(sealed(64), "reader")
    memory = window.view(0, 64, ignore)
    array = np.frombuffer(memory, np.uint8)
    with pytest.raises(TypeError, match="read-only"):
        memory[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_any_layout_arrives_in_c_order(arena: ShmArena, window: ShmMapping) -> None:
    matrix = np.arange(600, dtype=np.int32).reshape(20, 30)
    matrix.flags.writeable = False
    layouts = [matrix, matrix.T, matrix[::2, ::-3], np.broadcast_to(matrix, (3, 20, 30)), matrix[3, 3:4]]
    for array in layouts:
        offset = arena.place(array, "reader")
        assert offset is not None
        memory = window.view(offset, array.nbytes, ignore)
        arrived = np.ndarray(array.shape, array.dtype, memory)
        np.testing.assert_array_equal(arrived, array)


def test_what_is_not_sealed_is_refused(arena: ShmArena) -> None:
    with pytest.raises(ValueError, match="read-only"):
        arena.place(np.zeros(64), "reader")


def test_empty_arrays_go_another_way(arena: ShmArena) -> None:
    assert arena.place(sealed(0), "reader") is None


def test_no_room_is_reported_and_harmless(arena: ShmArena) -> None:
    assert arena.place(sealed(256 * KIB + 1), "reader") is None
    assert arena.place(sealed(256 * KIB), "reader") == 0
    assert arena.place(sealed(1), "reader") is None
    with pytest.raises(ValueError, match="no room for a block"):
        ShmArena(63)


def test_no_memory_is_no_room(arena: ShmArena, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert arena.place(sealed(64), "reader") is None
    assert arena.place(sealed(64), "reader") == 0


def test_only_what_was_lent_can_be_given_back(arena: ShmArena) -> None:
    array = sealed(64)
    assert [arena.place(array, "reader") for _ in range(2)] == [0, 0]
    for reader, wrong in (("other", 0), ("reader", 64), ("reader", -64)):
        with pytest.raises(ValueError, match="not lent"):
            arena.freed(reader, wrong)
    for _ in range(2):
        arena.freed("reader", 0)
    with pytest.raises(ValueError, match="not lent"):
        arena.freed("reader", 0)


@pytest.mark.parametrize(
    ("offset", "nbytes"),
    [
        (256 * KIB, 1), (256 * KIB - 64, 65), (0, 256 * KIB + 1), (2**62, 64), (2**64, 1), (0, 2**64),
        (-64, 64), (-64, 128), (1, 1), (64, 0), (64, -64),
    ],
)  # fmt: skip
def test_wrong_offsets_are_refused(window: ShmMapping, offset: int, nbytes: int) -> None:
    let_go: list[int] = []
    with pytest.raises(ValueError, match="no block of"):
        window.view(offset, nbytes, let_go.append)
    assert not let_go


def test_all_of_an_arena_can_be_read(arena: ShmArena, window: ShmMapping) -> None:
    """Also where nothing was ever placed: a wrong offset can't end the reader."""
    assert not np.frombuffer(window.view(0, 256 * KIB, ignore), np.uint8).any()


def test_a_file_that_could_shrink_is_refused(tmp_path: Path) -> None:
    plain = os.memfd_create("plain")
    sealable = os.memfd_create("sealable", os.MFD_ALLOW_SEALING)
    empty = os.memfd_create("empty", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(empty, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    waiting, writing = os.pipe()
    try:
        for fd in (plain, sealable, file):
            os.ftruncate(fd, 4096)
        for fd in (plain, sealable, empty, file, waiting):
            with pytest.raises(OSError, match="not the arena"):
                ShmMapping(os.getpid(), fd)
    finally:
        for fd in (plain, sealable, empty, file, waiting, writing):
            os.close(fd)


def test_the_size_of_an_arena_is_fixed(arena: ShmArena) -> None:
    for size in (0, 512 * KIB):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)


def test_a_window_onto_nothing_is_refused() -> None:
    with pytest.raises(FileNotFoundError):
        ShmMapping(os.getpid(), 10**6)
    with pytest.raises(FileNotFoundError):
        ShmMapping(2**22 + 1, 3)  # beyond the largest process id there is


def test_views_outlive_window_and_arena() -> None:
    arena = ShmArena(KIB)
    window = ShmMapping(os.getpid(), arena.fd)
    array, let_go = sealed(KIB), list[int]()
    arena.place(array, "reader")
    view = np.frombuffer(window.view(0, KIB, let_go.append), np.uint8)[:]
    for _ in range(2):
        arena.close()
        window.close()
    with pytest.raises(ValueError, match="closed"):
        window.view(0, KIB, let_go.append)
    assert bytes(view) == bytes(array)
    del view
    assert let_go == [0]


def held() -> tuple[int, int]:
    """Open files, and mappings of arenas."""
    mappings = Path("/proc/self/maps").read_text().splitlines()
    return sum(1 for _ in Path("/proc/self/fd").iterdir()), sum("memfd:actorq" in line for line in mappings)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = held()
    for _ in range(20):
        test_views_outlive_window_and_arena()
        test_a_file_that_could_shrink_is_refused(tmp_path)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            ShmArena(2**60)
    assert held() == before


OTHER = """
import os, sys
import numpy as np
from actorq.actors.wire.session.shm_arena import ShmArena, ShmMapping

def send():  # an arena with one block in it
    arena = ShmArena(1 << 20)
    array = np.arange(100_000)
    array.flags.writeable = False
    print(arena.fd, arena.place(array, "reader"), array.nbytes, flush=True)
    sys.stdin.readline()

def receive(pid, fd):  # "offset nbytes" a line; holds all it was told of
    window, views = ShmMapping(pid, fd), []
    for line in sys.stdin:
        offset, nbytes = map(int, line.split())
        views.append(np.frombuffer(window.view(offset, nbytes, lambda _: None), np.uint8))
        print(views[-1].sum(), flush=True)

send() if len(sys.argv) == 1 else receive(*map(int, sys.argv[1:]))
"""


@contextmanager
def another(*arguments: int) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def talk(process: "subprocess.Popen[str]", line: str = "") -> list[int]:
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        print(line, file=process.stdin, flush=True)
    return [int(word) for word in process.stdout.readline().split()]


def test_a_killed_reader_leaves_nothing(arena: ShmArena) -> None:
    before = held()
    array = sealed(100 * KIB)
    with another(os.getpid(), arena.fd) as reader:
        offset = arena.place(array, reader.pid)
        assert talk(reader, f"{offset} {array.nbytes}") == [int(array.sum())]
        reader.send_signal(signal.SIGKILL)
        assert reader.wait() == -signal.SIGKILL
        arena.forget(reader.pid)
    gc.collect()
    assert held() == before
    successor = sealed(256 * KIB, 1)
    with another(os.getpid(), arena.fd) as reader:
        assert arena.place(successor, reader.pid) == 0
        assert talk(reader, f"0 {successor.nbytes}") == [int(successor.sum())]


def test_a_killed_sender_takes_no_view_away() -> None:
    before = held()
    with another() as sender:
        fd, offset, nbytes = talk(sender)
        window = ShmMapping(sender.pid, fd)
        let_go: list[int] = []
        view = np.frombuffer(window.view(offset, nbytes, let_go.append), np.int64)
        sender.send_signal(signal.SIGKILL)
        assert sender.wait() == -signal.SIGKILL
    np.testing.assert_array_equal(view, np.arange(100_000))
    later = np.frombuffer(window.view(offset, nbytes, let_go.append), np.int64)
    assert later[-1] == 99_999
    window.close()
    del view, later
    assert let_go == [offset, offset]
    gc.collect()
    assert held() == before
