"""A frame that the receiver refuses is sent again, a limited number of times; then the receiver ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actorq.actors.errors import ActorqError
from actorq.actors.wire.registry import WireError
from actorq.actors.wire.session.frame_header import Kind
from actorq.actors.wire.session.session import MAX_REFUSALS

from .ends import End, serving

pytestmark = pytest.mark.anyio


def ends(folder: Path, refuse: Any) -> tuple[End, End]:
    made = End("a"), End("b", take=refuse)
    for end in made:
        end.listen(f"ipc://{folder}/{end.name}")
    return made


@pytest.mark.parametrize("kind", Kind)
async def test_a_frame_that_is_always_refused_ends_the_receiver(tmp_path: Path, kind: Kind) -> None:
    """Its messages would stay unsettled for ever, and everything behind it would wait."""
    refused = []

    def refuse(peer: str, kind: Kind, body: memoryview) -> None:
        if bytes(body) == b"second":
            refused.append(kind)
            raise WireError("a wrong word")

    a, b = ends(tmp_path, refuse)

    async def talk() -> None:
        async with serving(a, b):
            outboxes = a.peer_up(b)
            b.peer_up(a)
            outboxes[kind is Kind.ANSWERS].put(b"first", b"second", b"third")
            await b.until(lambda: False)

    with pytest.raises(BaseExceptionGroup) as caught:
        await talk()
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    said = f"a has sent frame 2 of its {kind.name.lower()} {MAX_REFUSALS} times, and b can't decode it"
    assert isinstance(error, ActorqError)
    assert str(error) == f"{said}: a wrong word"
    assert refused == [kind] * MAX_REFUSALS
    assert b.frames["a", kind] == [b"first"]
