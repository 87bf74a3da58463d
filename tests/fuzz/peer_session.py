"""Whatever a proven peer sends: what is to be trusted arrives, or WireError. Guided by coverage (atheris).

Further than `decoder`: into the mailbox queues of actors, and to the senders of what is answered. Used as
that is.
"""

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
from msgspec import msgpack

with atheris.instrument_imports(include=["actorq.actors"]):
    from actorq.actors.runtime.actor_cell import ActorCell, LocalNode
    from actorq.actors.runtime.envelope import Envelope, Outcome, RequestEnvelope
    from actorq.actors.runtime.reports import ReportTotals
    from actorq.actors.runtime.scheduler import ConcurrentScheduler
    from actorq.actors.wire.codec import Answers, EnvelopeEnded, Found, Packer, Probe, Reply
    from actorq.actors.wire.link_schema import LinkSchema
    from actorq.actors.wire.peer_session import PeerSession
    from actorq.actors.wire.registry import WireError

from tests.actors.linked_sessions import MAX_FRAME_BYTES, Pipe, Sender, specs
from tests.actors.messages import Add, Echo, GetTotal, Text, Total, Weights

ENVELOPES, ANSWERS, ENVELOPES_HEADER, ANSWERS_HEADER = range(4)
"""The first byte says what the rest is: a frame, or only its header (so that its length is right)."""

SPECS = specs()
THERE, HERE = LinkSchema(SPECS, "far", "main", 0), LinkSchema(SPECS, "main", "far", 0)

nobody: Any = None


class Unheard:
    """Of somebody who waits for an answer."""

    def set(self) -> None:
        pass


class Peers:
    """A node with one actor that handles nothing, and one that waits for answers from it."""

    def __init__(self) -> None:
        node = LocalNode("far")
        node.cells["worker"] = ActorCell(SPECS["worker"], ConcurrentScheduler(), ReportTotals(), nobody)
        self.far = PeerSession(THERE, node, MAX_FRAME_BYTES)
        self.main = PeerSession(HERE, LocalNode("main"), MAX_FRAME_BYTES)
        for peer_session in (self.far, self.main):
            peer_session.peer_up(Pipe(nobody, nobody, False), Pipe(nobody, nobody, False), None)
        sender = Sender()
        for message in (Add(1), Text("x"), Weights(3)):
            self.main.deliver(Envelope(message, 88, "boss", "worker", sender, ()))
        for request in (Echo("x"), GetTotal()):
            unheard: Any = Unheard()
            self.main.deliver(RequestEnvelope(request, 88, "boss", "worker", sender, ("boss",), unheard))


def read(data: bytes) -> None:
    """What is done with each input. Anything that is raised is a failure."""
    if not data:
        return
    kind, frame = data[0] % 4, data[1:]
    if kind in (ENVELOPES_HEADER, ANSWERS_HEADER):
        frame = len(frame).to_bytes(4, "little") + bytes(4) + frame
    peers = Peers()
    try:
        if kind in (ENVELOPES, ENVELOPES_HEADER):
            peers.far.envelopes_received(memoryview(frame))
        else:
            peers.main.answers_received(memoryview(frame))
    except WireError:
        pass


def seeds() -> list[bytes]:
    """Inputs to begin with."""
    told = [
        Envelope(each, 88, "boss", "worker", nobody, ()) for each in (Add(1), Add(2), Text("y"), Weights(1))
    ]
    asked = [RequestEnvelope(Echo("z"), 88, "boss", "worker", nobody, ("boss", "worker"), nobody)]
    ack_batch: Answers[Any] = Answers(
        handled=[1, 2],
        ended=[EnvelopeEnded(3, Outcome.REFUSED, "no"), EnvelopeEnded(5, Outcome.CIRCULAR, "", ("a", "b"))],
        replies=[Reply(4, 0, Text("x")), Reply(5, 0, Total(1))],
        found=[Found(3, ("a", "b"))],
        freed=[64],
    )
    probes: Answers[Any] = Answers(probes=[Probe(1, 0, ("a",))])
    envelopes = [Packer().envelopes(HERE.out, 1, each)[1] for each in (told, asked, told + asked)]
    answers = [Packer().answers(each)[1] for each in (ack_batch, probes)]
    found = [bytes([ENVELOPES_HEADER]) + bytes(each) for each in envelopes]
    found.append(bytes([ENVELOPES_HEADER]) + msgpack.encode([1, [[0, [], None, None]], []]))
    return found + [bytes([ANSWERS_HEADER]) + bytes(each) for each in answers]


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        again = any(Path(argument).is_file() for argument in sys.argv[1:])
        atheris.Setup(sys.argv if again else [*sys.argv, folder], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
