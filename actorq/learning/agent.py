"""The `[agent]` table: which Q-network, and how it learns. Free of torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

BUILT_IN_NETWORKS = ("mlp", "nature_cnn", "minatar_cnn")

DEFAULT_TARGET_EVERY_UPDATES = 500

_DEFAULT_HIDDEN = {"mlp": (128, 128), "nature_cnn": (512,), "minatar_cnn": (128,)}
_CUSTOM_NETWORK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

Positive = Annotated[int, Meta(gt=0)]
Rate = Annotated[float, Meta(ge=0.0, lt=1.0)]


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Q-network and its learning rule, shared by every role that acts or learns.

    Single fields are checked when the table is read; `problems` names combinations that contradict each
    other.
    """

    network: Annotated[
        str,
        Meta(description="The Q-network: mlp, nature_cnn, minatar_cnn, or your own as package.module:Class."),
    ] = "mlp"
    hidden: Annotated[
        tuple[Positive, ...] | None,
        Meta(
            description="Widths of the fully connected hidden layers, after any convolutions."
            " Left out: [128, 128] for mlp, [512] for nature_cnn, [128] for minatar_cnn. [] is a linear Q."
        ),
    ] = None
    dueling: Annotated[
        bool, Meta(description="Separate streams for state value and advantages (Wang et al. 2016).")
    ] = False
    double: Annotated[
        bool, Meta(description="Double Q-learning: the online network chooses the target's action.")
    ] = True
    n_step: Annotated[int, Meta(gt=0, description="Environment steps summed before bootstrapping.")] = 3
    gamma: Annotated[float, Meta(ge=0.0, le=1.0, description="Discount per environment step.")] = 0.99
    loss: Annotated[
        Literal["huber", "squared"],
        Meta(
            description="Of the TD error d: squared is d*d/2; huber the same up to |d| = 1, then |d| - 1/2."
        ),
    ] = "huber"
    learning_rate: Annotated[float, Meta(gt=0.0, description="The optimizer's step size.")] = 1e-3
    optimizer: Annotated[
        Literal["adam", "rmsprop"], Meta(description="adam, or rmsprop in its centered form.")
    ] = "adam"
    optimizer_epsilon: Annotated[
        Annotated[float, Meta(gt=0.0)] | None,
        Meta(description="Added to the denominator. Left out: 1e-8 for adam, 0.01 for rmsprop."),
    ] = None
    adam_betas: Annotated[
        tuple[Rate, Rate] | None,
        Meta(description="Decay per update of Adam's two moments. Left out: [0.9, 0.999]."),
    ] = None
    rmsprop_decay: Annotated[
        Rate | None, Meta(description="Decay per update of RMSProp's moving averages. Left out: 0.95.")
    ] = None
    batch_size: Annotated[int, Meta(gt=0, description="Transitions per update.")] = 64
    max_gradient_norm: Annotated[
        Annotated[float, Meta(gt=0.0)] | None,
        Meta(description="Scale the gradient down to this Euclidean norm. Left out: no clipping."),
    ] = None
    target_every_updates: Annotated[
        Positive | None,
        Meta(description="Copy online to target network every so many updates. Left out: 500."),
    ] = None
    polyak: Annotated[
        Annotated[float, Meta(gt=0.0, le=1.0)] | None,
        Meta(description="Instead of copies: the target moves this fraction of the way after every update."),
    ] = None
    dtype: Annotated[
        Literal["float32", "float64"], Meta(description="Of the parameters. float64 is meant for tests.")
    ] = "float32"

    @property
    def custom(self) -> bool:
        """Whether the network is the user's own class."""
        return self.network not in BUILT_IN_NETWORKS

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """`hidden`, or what its network takes when that is left out; empty for a custom network."""
        return _DEFAULT_HIDDEN.get(self.network, ()) if self.hidden is None else self.hidden

    def target_updates(self, updates: int) -> int:
        """After how many of `updates` updates the target network changed last; 0: not yet."""
        if self.polyak is not None:
            return updates
        every = self.target_every_updates or DEFAULT_TARGET_EVERY_UPDATES
        return updates - updates % every

    def copies_target(self, updates: int) -> bool:
        """Whether the target network is a copy of what this update has led to."""
        return self.polyak is None and self.target_updates(updates) == updates

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each setting that another one contradicts."""
        if self.custom and not _CUSTOM_NETWORK.fullmatch(self.network):
            near = difflib.get_close_matches(self.network, BUILT_IN_NETWORKS, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            allowed = ", ".join(BUILT_IN_NETWORKS)
            yield "network", f"{self.network!r} is none of {allowed}, nor a 'package.module:Class'{guess}"
        elif self.custom and self.hidden is not None:
            yield "hidden", f"hidden is for the built-in networks; {self.network!r} chooses its own layers"
        if self.custom and self.dueling:
            yield "dueling", f"dueling is for the built-in networks; {self.network!r} makes its own outputs"
        elif self.dueling and not self.hidden_widths:
            yield "dueling", "dueling splits the last hidden layer in two streams, and hidden is []"
        if self.target_every_updates is not None and self.polyak is not None:
            yield "polyak", "the target network follows by target_every_updates or by polyak, not both"
        if self.optimizer != "adam" and self.adam_betas is not None:
            yield "adam_betas", f"adam_betas is for adam, and the optimizer is {self.optimizer}"
        if self.optimizer != "rmsprop" and self.rmsprop_decay is not None:
            yield "rmsprop_decay", f"rmsprop_decay is for rmsprop, and the optimizer is {self.optimizer}"
