"""Whatever bytes arrive as a frame: WireError, or values that can be sent on. Guided by coverage (atheris).

`python -m tests.fuzz.decoder -max_total_time=300 [CORPUS]`; options are libFuzzer's. A failure is written to
a file crash-…, and shown again by giving that file as an argument.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["actorq.actors"]):
    from actorq.actors.runtime.envelope import Envelope, Outcome
    from actorq.actors.wire.codec import (
        LARGE_BYTES,
        Answers,
        EnvelopeEnded,
        Found,
        Packer,
        Probe,
        Reply,
        Unpacker,
    )
    from actorq.actors.wire.registry import WireError

from tests.actors.frames import CONTRACT, REPLIES, Add, Floats, Get, asked, everything, joined, told

ENVELOPES, ANSWERS, ENVELOPES_HEADER, ANSWERS_HEADER = range(4)
"""The first byte says what the rest is: a frame, or only its header (so that its length is right)."""


def borrow(offset: int, nbytes: int) -> memoryview:
    if offset != 64 or nbytes > LARGE_BYTES:
        raise ValueError("no such block")
    return memoryview(bytes(nbytes))


def replies_to(number: int) -> tuple[Any, ...]:
    if number > 2**32:
        raise WireError("it was not asked")
    return REPLIES


UNPACKER = Unpacker(borrow)


def read(data: bytes) -> None:
    """What is done with each input. Anything that is raised is a failure."""
    if not data:
        return
    kind, frame = data[0] % 4, data[1:]
    if kind in (ENVELOPES_HEADER, ANSWERS_HEADER):
        frame = len(frame).to_bytes(8, "little") + frame
    try:
        if kind in (ENVELOPES, ENVELOPES_HEADER):
            read_envelopes(memoryview(frame))
        else:
            read_answers(memoryview(frame))
    except WireError:
        pass


def read_envelopes(frame: memoryview) -> None:
    for run in UNPACKER.envelopes(CONTRACT, frame):
        route = CONTRACT.routes[run.route]
        envelopes: list[Envelope] = []
        for index, message in enumerate(run.messages):
            if not isinstance(message, WireError):
                assert type(message) is route.message
                chains = run.chains
                envelopes.append(
                    told(message, route.sender) if chains is None else asked(message, chains[index])
                )
        Packer().envelopes(CONTRACT, run.first, envelopes)


def read_answers(frame: memoryview) -> None:
    answers = UNPACKER.answers(frame, replies_to)
    for reply in answers.replies:
        assert isinstance(reply.payload, WireError | REPLIES[reply.kind])
    answers.replies = [reply for reply in answers.replies if not isinstance(reply.payload, WireError)]
    Packer().answers(answers)


def seeds() -> list[bytes]:
    """Inputs to begin with."""
    sent = [told(Add(amount=1)), told(everything()), told(Add(amount=300)), asked(Get(name="x"), ("a", "b"))]
    lent = Floats(data=np.zeros(LARGE_BYTES // 4, np.float32))
    ack_batch: Answers[Any] = Answers(
        handled=[1, 3, 9, 1],
        ended=[EnvelopeEnded(4, Outcome.REFUSED, "no"), EnvelopeEnded(5, Outcome.CIRCULAR, "", ("a", "b"))],
        replies=[Reply(6, 0, None), Reply(7, 1, everything()), Reply(8, 2, lent)],
        probes=[Probe(1, 4, ("a",))],
        found=[Found(3, ("a", "b"))],
        freed=[64],
    )
    packer = Packer(lambda array: 64)
    found = [bytes([ENVELOPES]) + bytes(joined(packer.envelopes(CONTRACT, 1, sent)))]
    found += [
        bytes([ENVELOPES_HEADER]) + packer.envelopes(CONTRACT, 1, [each])[1] for each in (sent[0], sent[3])
    ]
    found += [bytes([kind]) + bytes(joined(packer.answers(ack_batch)))[at:] for kind, at in ((1, 0), (3, 8))]
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        again = any(Path(argument).is_file() for argument in sys.argv[1:])
        atheris.Setup(sys.argv if again else [*sys.argv, folder], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
