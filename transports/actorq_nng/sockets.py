"""nng sockets: waited for by file descriptor, frames copied once when sent and not at all when received.

Uses names that are private to pynng 0.9; `prepare` checks them before the first socket opens.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import anyio
import pynng
from pynng import ffi, lib

from actorq.actors.errors import ActorqError
from actorq.actors.runtime.loop_waker import LoopWaker
from actorq.actors.wire.session.frame_header import Part
from actorq.actors.wire.tls import SERVER_NAME, Tls

from .handshakes import Handshakes

COPIED_BYTES = 4096
"""Frames below this size are copied out of nng's memory: cheaper than an owner object for each."""

NEVER_MS = 3_600_000
DIAL_AGAIN_MS = (10, 1000)
"""Bounds of nng's exponential back-off with jitter."""


class _FrameSource:
    """Frames of a PULL socket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._handle = socket.socket
        self._cell = ffi.new("nng_msg **")

    def take(self, flags: int = lib.NNG_FLAG_NONBLOCK) -> tuple[int, memoryview] | None:
        """The next frame, read-only, and the connection it came over; None if there is none."""
        code = lib.nng_recvmsg(self._handle, self._cell, flags)
        if code:
            if code != lib.NNG_EAGAIN:
                pynng.check_err(code)
            return None
        message = self._cell[0]
        pipe = lib.nng_msg_get_pipe(message).id
        size = lib.nng_msg_len(message)
        start = lib.nng_msg_body(message)
        if size < COPIED_BYTES:
            frame = memoryview(ffi.buffer(start, size)[:])
            lib.nng_msg_free(message)
            return pipe, frame
        owner = ffi.gc(ffi.cast("char *", start), partial(_free, message))
        return pipe, memoryview(ffi.buffer(owner, size)).toreadonly()


class _FrameSink:
    """Frames to a PUSH socket."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._handle = socket.socket
        self._cell = ffi.new("nng_msg **")

    def send(self, parts: Iterable[Part], size: int, flags: int = lib.NNG_FLAG_NONBLOCK) -> bool:
        """Copy the parts, `size` bytes in all, into one frame and send it; False if it can't leave now."""
        if lib.nng_msg_alloc(self._cell, size):
            raise MemoryError(f"no memory for a frame of {size} bytes")
        message = self._cell[0]
        body = ffi.buffer(lib.nng_msg_body(message), size)
        start = 0
        for part in parts:
            end = start + (len(part) if type(part) is bytes else memoryview(part).nbytes)
            body[start:end] = part
            start = end
        if lib.nng_sendmsg(self._handle, message, flags):
            lib.nng_msg_free(message)
            return False
        return True


class Listener(_FrameSource):
    """PULL socket: receives the frames of all peers, over any number of addresses.

    `opened` and `closed` are called on the loop with the number of a connection; a frame may arrive before
    its connection's `opened`, never after `closed`. `admits` is called on nng's thread before each
    connection, with the number of open ones; `turned_away` is called on the loop for each one that isn't
    admitted.
    """

    def __init__(
        self,
        waker: LoopWaker,
        *,
        max_bytes: int,
        tls: Tls | None,
        admits: Callable[[int], bool],
        turned_away: Callable[[], object],
        opened: Callable[[int], object],
        closed: Callable[[int], object],
    ) -> None:
        prepare()
        super().__init__(pynng.Pull0(recv_max_size=max_bytes))
        if tls is not None:
            self._socket.tls_config = _tls_config(tls, pynng.TLSConfig.MODE_SERVER)
        self.fd: int = self._socket.recv_fd
        """File descriptor that is readable when a frame can be taken."""
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        self._handshakes = Handshakes()
        self._listeners: list[Any] = []
        self._refused = 0

        def admit(pipe: Any) -> None:
            if not admits(len(self._socket.pipes)):
                pipe.close()
                waker.call_soon(turned_away)
            else:
                waker.call_soon(partial(opened, pipe.id))

        self._socket.add_pre_pipe_connect_cb(admit)
        # This event may come after the last one of a connection, which pynng then keeps for ever.
        lib.nng_pipe_notify(self._handle, lib.NNG_PIPE_EV_ADD_POST, ffi.NULL, ffi.NULL)
        self._socket.add_post_pipe_remove_cb(lambda pipe: waker.call_soon(partial(closed, pipe.id)))

    def listen(self, address: str) -> str:
        """Listen; returns the address as bound: a TCP port of 0 becomes the real one. Raises ActorqError."""
        try:
            listener = self._socket.listen(address)
        except pynng.NNGException as error:
            raise ActorqError(f"can't listen at {address}: {error}") from error
        self._listeners.append(listener.listener)
        if address.startswith("ipc://"):
            return address
        port = ffi.new("int *")
        pynng.check_err(lib.nng_listener_get_int(listener.listener, b"tcp-bound-port", port))
        self._handshakes.watch(port[0])
        return f"{address.rpartition(':')[0]}:{port[0]}"

    def readable(self) -> bool:
        """Whether a frame can be taken; costs a fifth of a `take` that finds none."""
        return bool(self._poll.poll(0))

    def hang_up(self, pipe: int) -> None:
        """Close a connection; its `closed` follows. No effect if it is gone."""
        lib.nng_pipe_close(ffi.new("nng_pipe *", {"id": pipe})[0])

    def end_handshakes(self) -> int:
        """End the TCP handshakes that were in progress at the last call already; returns their number."""
        return self._handshakes.sweep(self._far_ends)

    def refused(self) -> int:
        """Connections that nng itself refused: of another protocol, or without the run's certificate.

        Of several within a tenth of a second it counts one.
        """
        if self._listeners:
            self._refused = _refused(self._listeners)
        return self._refused

    def close(self) -> None:
        """Close all connections; nng removes its socket files. No task may wait for `fd` any more."""
        self.refused()
        self._listeners.clear()
        self._handshakes.close()
        self._socket.close()

    def _far_ends(self) -> set[str]:
        """The far ends of all open connections."""
        found = set()
        for pipe in self._socket.pipes:
            with suppress(pynng.NNGException):  # just gone
                found.add(str(pipe.remote_address))
        return found


class Dialer(_FrameSink):
    """PUSH socket: one connection to a peer's listener, retried until it is established; once lost it stays
    lost.
    """

    def __init__(self, address: str, waker: LoopWaker, *, tls: Tls | None) -> None:
        prepare()
        soonest, latest = DIAL_AGAIN_MS
        super().__init__(
            pynng.Push0(reconnect_time_min=soonest, reconnect_time_max=latest, send_buffer_size=1)
        )
        if tls is not None:
            self._socket.tls_config = _tls_config(tls, pynng.TLSConfig.MODE_CLIENT)
        self._fd: int = self._socket.send_fd
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        first = True

        def only_the_first(pipe: Any) -> None:
            nonlocal first
            if not first:  # nng dialed again by itself; this connection would begin without a hello
                pipe.close()
            first = False

        self.connected, self._lost = anyio.Event(), anyio.Event()
        self._closed = False
        self._socket.add_pre_pipe_connect_cb(only_the_first)
        self._socket.add_post_pipe_connect_cb(lambda pipe: waker.call_soon(self._on_connected))
        self._socket.add_post_pipe_remove_cb(lambda pipe: waker.call_soon(self._on_lost))
        try:
            self._dialer = self._socket.dial(address, block=False)
        except pynng.NNGException as error:
            self._socket.close()
            raise ActorqError(f"can't dial {address}: {error}") from error

    def writable(self) -> bool:
        """Whether a frame would leave at once."""
        return bool(self._poll.poll(0))

    async def run(self) -> None:
        """Return when the connection is lost."""
        await self._lost.wait()

    async def wait_writable(self) -> None:
        """Return when `writable`; always a checkpoint. One task at a time."""
        await anyio.wait_readable(self._fd)  # nng raises this descriptor when it can send

    def close(self) -> None:
        """Close the connection, or stop dialing. No task may be in `wait_writable` any more."""
        self._closed = True
        self._socket.close()

    def _on_connected(self) -> None:
        if not self._closed:
            self._dialer.reconnect_time_min = self._dialer.reconnect_time_max = NEVER_MS
            self.connected.set()

    def _on_lost(self) -> None:
        if not self._closed:
            self.connected.set()
            self._lost.set()


def _refused(listeners: Iterable[Any]) -> int:
    root = ffi.new("nng_stat **")
    pynng.check_err(lib.nng_stats_get(root))
    total = 0
    for listener in listeners:
        stat = lib.nng_stat_child(lib.nng_stat_find_listener(root[0], listener))
        while stat != ffi.NULL:
            if ffi.string(lib.nng_stat_name(stat)) in (b"proto", b"auth"):
                total += lib.nng_stat_value(stat)
            stat = lib.nng_stat_next(stat)
    lib.nng_stats_free(root[0])
    return total


@cache
def prepare() -> None:
    """Set up nng for this process and test that it does what this module needs; cheap when repeated.

    Raises ActorqError if it doesn't.
    """
    try:
        for threads in ("TASK", "EXPIRE", "POLLER", "RESOLVER"):  # a dozen threads otherwise
            lib.nng_init_set_parameter(getattr(lib, f"NNG_INIT_NUM_{threads}_THREADS"), 1)
        _self_test()
    except (AttributeError, TypeError, AssertionError, ffi.error, pynng.NNGException) as error:
        raise ActorqError(
            f"pynng {pynng.__version__} doesn't carry frames as actorq needs it ({error}); "
            "install pynng>=0.9,<0.10"
        ) from error


def _self_test() -> None:
    """Send a small and a large frame by the calls that carry all frames."""
    address = "inproc://actorq.self-test"
    with pynng.Pull0(listen=address) as pull, pynng.Push0(dial=address, block_on_dial=True) as push:
        push.send_timeout = pull.recv_timeout = 1000
        sink, source = _FrameSink(push), _FrameSource(pull)
        for size in (COPIED_BYTES // 2, COPIED_BYTES * 2):
            sent: list[Part] = [bytes(range(256)), memoryview(bytes(size))]
            if not sink.send(sent, size + 256, flags=0):
                raise AssertionError("a frame can't be sent")
            taken = source.take(flags=0)
            if taken is None or taken[1] != b"".join(sent):
                raise AssertionError("a frame arrives changed")
            if taken[0] not in [pipe.id for pipe in pull.pipes]:
                raise AssertionError("a frame doesn't name its connection")


def _free(message: Any, _start: Any) -> None:
    lib.nng_msg_free(message)


def _tls_config(tls: Tls, mode: int) -> Any:
    return pynng.TLSConfig(
        mode,
        server_name=SERVER_NAME if mode == pynng.TLSConfig.MODE_CLIENT else None,
        ca_string=tls.authority,
        own_cert_string=tls.certificate,
        own_key_string=tls.key,
        auth_mode=pynng.TLSConfig.AUTH_MODE_REQUIRED,
    )
