"""What a frame says before its payload: from whom, to whom, and in answer to what."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .letter import Outcome

Number = Annotated[int, msgspec.Meta(ge=0)]


class LetterHeader(msgspec.Struct, frozen=True, array_like=True, tag="letter"):
    """Everything of a letter but its message."""

    sender: str
    target: str
    request: Number
    """What the answer will refer to, counted by the sending side."""
    size: Number = 0
    """What the sending side reckons the message to take."""
    wants_reply: bool = False
    """Whether somebody waits for the reply."""
    chain: tuple[str, ...] = ()
    """The waiting handlers that led to this request, outermost first."""


class AnswerHeader(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """How a letter ended. The reply of a handled request is the frame's payload."""

    request: Number
    outcome: Outcome
    reason: str = ""
    """For outcomes that need a sentence."""
    circle: tuple[str, ...] = ()
    """For CIRCULAR: the actors that would have waited for each other."""


Header = LetterHeader | AnswerHeader
