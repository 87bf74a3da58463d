"""Endpoints in one process over real sockets: frames arrive once and in order, across lost connections."""

import gc
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorq.actors import ActorqError
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.session import connector, stream
from actorq.actors.wire.session.frame_header import PREFIX, PREFIX_BYTES, Kind, Part
from actorq_nng import wire
from actorq_nng.sockets import Dialer

from .ends import MAX_FRAME_BYTES, End, descriptors, serving, two

pytestmark = pytest.mark.anyio


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def has(end: End, counts: dict[tuple[str, Kind], int]) -> bool:
    return all(len(end.frames[key]) >= count for key, count in counts.items())


def numbered(count: int, size: int = 0) -> list[bytes]:
    return [number.to_bytes(4, "little") + bytes(size) for number in range(count)]


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
async def test_frames_arrive_both_ways(tmp_path: Path, scheme: str) -> None:
    a, b = two(tmp_path, scheme)
    async with serving(a, b):
        envelopes, answers = a.peer_up(b)
        back, _ = b.peer_up(a)
        frames = [b"", b"small", bytes(100_000), *numbered(300)]
        for outbox in (envelopes, answers, back):
            outbox.put(*frames)
        await b.until(lambda: b.frames == {("a", kind): frames for kind in Kind})
        await a.until(lambda: a.frames == {("b", Kind.ENVELOPES): frames})


async def test_parts_become_one_body(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    array = np.arange(6000, dtype=np.float32).reshape(60, 100)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.waiting.append((b"head", array.data, np.zeros((0, 4)).data, memoryview(b"tail")))
        envelopes.stream.wake()
        await b.until(lambda: b.frames["a", Kind.ENVELOPES] == [b"head" + array.tobytes() + b"tail"])


@pytest.mark.parametrize("size", [100, 10_000])
async def test_a_body_is_an_aligned_view_that_outlives_the_endpoint(tmp_path: Path, size: int) -> None:
    views: list[memoryview] = []
    a, b = End("a"), End("b", take=lambda peer, kind, body: views.append(body))
    for end in (a, b):
        end.listen(f"ipc://{tmp_path}/{end.name}")
    frames = [bytes([number]) * size for number in range(5)]
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(*frames)
        await b.until(lambda: len(views) == 5)
    gc.collect()
    assert [bytes(view) for view in views] == frames
    assert all(view.readonly for view in views)
    assert all(np.frombuffer(view, np.uint8).ctypes.data % 16 == 0 for view in views)


async def test_all_that_waits_may_go_as_one_frame(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        waiting: list[bytes] = []

        def all_of_it() -> list[bytes] | None:
            parts = waiting.copy()
            waiting.clear()
            return parts or None

        envelopes.next_frame = all_of_it
        for frame in numbered(50):
            waiting.append(frame)
            envelopes.stream.wake()
        await b.until(lambda: b.frames["a", Kind.ENVELOPES] == [b"".join(numbered(50))])


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
async def test_a_burst_of_cuts(tmp_path: Path, scheme: str) -> None:
    """A hundred cuts at random moments while both are sending on all four streams."""
    a, b = two(tmp_path, scheme)
    chance = random.Random(0)
    frames = [bytes(chance.randrange(200)) + frame for frame in numbered(1500)]
    frames[::100] = [bytes(50_000)] * 15
    async with serving(a, b):
        outboxes = [*a.peer_up(b), *b.peer_up(a)]
        for start in range(0, 1500, 15):
            for outbox in outboxes:
                outbox.put(*frames[start : start + 15])
            for _ in range(chance.randrange(30)):
                await anyio.lowlevel.checkpoint()
            chance.choice([a, b]).endpoint.cut()
        for end, other in ((a, "b"), (b, "a")):
            await end.until(partial(has, end, {(other, kind): 1500 for kind in Kind}))
            assert end.frames == {(other, kind): frames for kind in Kind}


STEPS = st.lists(
    st.tuples(st.sampled_from(["envelopes", "answers", "cut", "turns"]), st.booleans(), st.integers(1, 40)),
    max_size=40,
)


@settings(max_examples=25)
@given(steps=STEPS)
async def test_any_order_of_sending_and_cutting(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, int]]
) -> None:
    ends = two(tmp_path_factory.mktemp("ipc"))
    sent: dict[tuple[bool, Kind], list[bytes]] = {
        (route, kind): [] for route in (False, True) for kind in Kind
    }
    async with serving(*ends):
        outboxes = {False: ends[0].peer_up(ends[1]), True: ends[1].peer_up(ends[0])}
        for what, route, amount in steps:
            if what == "cut":
                ends[route].endpoint.cut()
            elif what == "turns":
                for _ in range(amount):
                    await anyio.lowlevel.checkpoint()
            else:
                kind = Kind[what.upper()]
                frames = [b"%d" % (len(sent[route, kind]) + number) for number in range(amount)]
                sent[route, kind] += frames
                outboxes[route][kind - 1].put(*frames)
        for route in (False, True):
            receiver, name = ends[not route], ends[route].name
            counts = {(name, kind): len(sent[route, kind]) for kind in Kind}
            await receiver.until(partial(has, receiver, counts))
        with anyio.fail_after(50):
            for each in outboxes.values():
                for outbox in each:
                    await outbox.stream.drained()
    for route in (False, True):
        for kind in Kind:
            assert ends[not route].frames[ends[route].name, kind] == sent[route, kind]


async def test_what_is_kept_is_bounded_by_the_window(tmp_path: Path) -> None:
    """Beyond, what waits stays with its source until the peer acknowledges."""
    a, b = two(tmp_path)
    frames = numbered(3 * stream.WINDOW_FRAMES)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        envelopes.put(*frames)
        assert len(envelopes.waiting) == len(frames)  # not connected: nothing is taken
        _, answers = b.peer_up(a)
        with patch.object(answers.stream, "send_acks", lambda: None):
            await b.until(lambda: len(b.frames["a", Kind.ENVELOPES]) == stream.WINDOW_FRAMES)
            envelopes.stream.flush()
            assert len(envelopes.waiting) == 2 * stream.WINDOW_FRAMES
            assert envelopes.stream.unacked == stream.WINDOW_FRAMES * (PREFIX_BYTES + 4)
        answers.stream.send_acks()
        await b.until(lambda: b.frames["a", Kind.ENVELOPES] == frames)


async def test_large_frames_fill_the_window_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 200_000)
    a, b = two(tmp_path)
    most = 0
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        source = envelopes.next_frame

        def watched() -> Sequence[Part] | None:
            nonlocal most
            most = max(most, envelopes.stream.unacked)
            return source()

        envelopes.next_frame = watched
        envelopes.put(*numbered(30, 90_000))
        await b.until(lambda: len(b.frames["a", Kind.ENVELOPES]) == 30)
    assert 90_000 < most < 200_000


async def test_acknowledged_though_nothing_flows_back(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(b"one")
        await b.until(lambda: bool(b.frames))
        assert envelopes.stream.unacked
        with anyio.fail_after(50):
            await envelopes.stream.drained()


async def test_a_connection_that_isnt_welcomed_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nng's threads take connections also for a node that does nothing any more."""
    closed = 0
    thrice = anyio.Event()

    class Counted(Dialer):
        def close(self) -> None:
            nonlocal closed
            super().close()
            closed += 1
            if closed == 3:
                thrice.set()

    monkeypatch.setattr(connector, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(wire, "Dialer", Counted)
    a, b = two(tmp_path)
    async with serving(a):
        envelopes, _ = a.peer_up(b)
        envelopes.put(b"one")
        with anyio.fail_after(50):
            await thrice.wait()
        monkeypatch.undo()
        async with serving(b):
            b.peer_up(a)
            await b.until(lambda: b.frames == {("a", Kind.ENVELOPES): [b"one"]})


async def test_a_connection_that_isnt_acknowledged_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a half-open one of TCP would be; the next one's welcome says how far the frames came."""
    monkeypatch.setattr(connector, "STALL_SECONDS", 0.1)
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        _, answers = b.peer_up(a)
        monkeypatch.setattr(answers.stream, "send_acks", lambda: None)
        envelopes.put(b"one")
        with anyio.fail_after(50):
            await envelopes.stream.drained()
    assert b.frames == {("a", Kind.ENVELOPES): [b"one"]}
    assert a.endpoint.statistics().connections > 2


@pytest.mark.parametrize(
    ("number", "acknowledged", "rest", "right"),
    [
        (1, 0, b"a repeat", True),
        (2, 1, b"the next", True),
        (3, 1, b"one after a gap", False),
        (2, 2, b"acknowledging what wasn't sent", False),
        (0, 1, b"", True),
        (0, 1, b"an acknowledgement with a body", False),
    ],
)
async def test_numbers_of_frames(
    tmp_path: Path, number: int, acknowledged: int, rest: bytes, right: bool
) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, (back, _) = a.peer_up(b)[0], b.peer_up(a)
        for outbox, end in ((envelopes, b), (back, a)):
            outbox.put(b"one")
            await end.until(lambda end=end: bool(end.frames))  # type: ignore[misc]
        await back.stream.drained()
        at_b = b.endpoint._sessions["a"]
        incoming = at_b.acks.envelopes
        frame = PREFIX.pack(incoming.head, incoming.ticket, number, acknowledged, 0) + rest
        assert at_b.arrived(incoming, memoryview(frame)) is right
        assert b.frames["a", Kind.ENVELOPES] == [b"one", rest][: 2 if right and number == 2 else 1]
        assert b.endpoint.statistics().repeats_dropped == (number == 1)


async def test_a_bad_frame_costs_the_connection_and_comes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    def fails_once(peer: str, kind: Kind, body: memoryview) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise WireError("a wrong word")

    a, b = End("a"), End("b", take=fails_once)
    for end in (a, b):
        end.listen(f"ipc://{tmp_path}/{end.name}")
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(*numbered(10))
        await b.until(lambda: len(b.frames["a", Kind.ENVELOPES]) == 10)
    assert b.frames["a", Kind.ENVELOPES] == numbered(10)
    assert attempts == 11
    assert b.endpoint.statistics().bad_frames == 1
    assert "a wrong word" in caplog.text


async def test_too_large_a_frame_is_the_senders_error(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        b.peer_up(a)
        envelopes.put(b"first")
        await b.until(lambda: bool(b.frames))
        with pytest.raises(WireError, match=f"exceeds the run's bound of {MAX_FRAME_BYTES}"):
            envelopes.put(bytes(MAX_FRAME_BYTES + 1), bytes(MAX_FRAME_BYTES), b"last")
        envelopes.stream.flush()
        await b.until(lambda: b.frames["a", Kind.ENVELOPES] == [b"first", bytes(MAX_FRAME_BYTES), b"last"])


async def test_another_incarnation_is_another_peer(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a):
        async with serving(b):
            envelopes, _ = a.peer_up(b)
            b.peer_up(a)
            envelopes.put(*numbered(5))
            await b.until(lambda: len(b.frames["a", Kind.ENVELOPES]) == 5)
        envelopes.put(b"never read")
        successor = End("b", incarnation=2)
        successor.listen(f"ipc://{tmp_path}/b")
        async with serving(successor):
            to_successor, _ = a.peer_up(successor)
            successor.peer_up(a)
            envelopes.put(b"never read")  # the dead stream takes nothing
            to_successor.put(b"yours")
            await successor.until(lambda: bool(successor.frames))
            assert successor.frames == {("a", Kind.ENVELOPES): [b"yours"]}


async def test_a_peer_that_is_down_is_refused(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        a.peer_up(b)
        envelopes, _ = b.peer_up(a)
        envelopes.put(b"one")
        await a.until(lambda: bool(a.frames))
        a.endpoint.peer_down("b")
        envelopes.put(b"two")
        await a.until(lambda: a.endpoint.statistics().early > 0)  # b dials again, in vain
        with pytest.raises(ActorqError, match="only another incarnation"):
            a.peer_up(b)
    assert a.frames == {("b", Kind.ENVELOPES): [b"one"]}


async def test_a_peer_that_is_known_late_is_accepted(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(a, b):
        envelopes, _ = a.peer_up(b)
        envelopes.put(b"one")
        await b.until(lambda: b.endpoint.statistics().early > 0)
        b.peer_up(a)
        await b.until(lambda: b.frames == {("a", Kind.ENVELOPES): [b"one"]})
    assert b.endpoint.statistics().unauthenticated == 0


async def test_close_drains(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    async with serving(b):
        b.peer_up(a)
        async with anyio.create_task_group() as group:
            await group.start(a.endpoint.serve)
            envelopes, answers = a.peer_up(b)
            envelopes.put(*numbered(500, 1000))
            answers.put(b"last")
            with anyio.fail_after(50):
                await a.endpoint.close()
        assert len(b.frames["a", Kind.ENVELOPES]) == 500
        assert b.frames["a", Kind.ANSWERS] == [b"last"]


async def test_close_gives_up_when_cancelled(tmp_path: Path) -> None:
    a = End("a")
    a.listen(f"ipc://{tmp_path}/a")
    async with anyio.create_task_group() as group:
        await group.start(a.endpoint.serve)
        absent = End("b")
        absent.addresses = (f"ipc://{tmp_path}/nobody",)
        a.peer_up(absent)[0].put(b"undeliverable")
        with anyio.move_on_after(0.01) as scope:
            await a.endpoint.close()
        assert scope.cancelled_caught
    assert files(tmp_path) == []


async def test_an_endpoint_that_never_served_closes(tmp_path: Path) -> None:
    a = End("a")
    a.listen(f"ipc://{tmp_path}/a")
    await a.endpoint.close()
    await a.endpoint.close()
    assert files(tmp_path) == []


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    a, b = two(tmp_path, "tcp")
    with pytest.raises(ActorqError, match="can't listen at tcp"):
        b.listen(a.addresses[0])
    with pytest.raises(ActorqError, match="without a certificate"):
        b.listen("tls+tcp://127.0.0.1:0")
    for end in (a, b):
        await end.endpoint.close()


async def test_no_task_or_file_is_left_wherever_it_is_cancelled(tmp_path: Path) -> None:
    """Cancelled after so many turns of the loop, from not yet dialed to full traffic."""
    for turns in range(0, 300, 7):
        a, b = two(tmp_path)
        async with serving(a, b):
            for outbox in (*a.peer_up(b), *b.peer_up(a)):
                outbox.put(*numbered(200, 100))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
        assert files(tmp_path) == []


async def test_no_descriptor_is_left_after_full_traffic(tmp_path: Path) -> None:
    """Not so for connections closed while they are being made: nng 1.11 forgets one now and then."""

    async def once(turns: int) -> None:
        a, b = two(tmp_path)
        async with serving(a, b):
            for outbox in (*a.peer_up(b), *b.peer_up(a)):
                outbox.put(*numbered(200, 100))
            for end, other in ((a, "b"), (b, "a")):
                await end.until(partial(has, end, {(other, kind): 1 for kind in Kind}))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()

    await once(100)
    before = descriptors()
    for turns in range(0, 150, 7):
        await once(turns)
    gc.collect()
    while descriptors() > before:  # nng's threads close the last ones when they come to it
        await once(0)
