"""The messages that the tests of actors share."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from actorq.actors import Message, Request


class Add(Message):
    amount: int


class Total(Message):
    value: int


class GetTotal(Request[Total]):
    pass


class Text(Message):
    text: str


class Block(Message):
    data: NDArray[np.float64]


class Measure(Request[Total]):
    """Answered with the size of its array."""

    data: NDArray[np.float64]


class Weights(Message):
    delivery: ClassVar[Literal["each", "latest"]] = "latest"
    version: int


class Visit(Request[Total]):
    """Asks each actor of the path in turn, the rest of it with it; answered with its length."""

    path: list[str]


class Echo(Request[Text]):
    text: str


class Nothing(Request[None]):
    pass
