"""The `[agent]` table: the Q-network and its learning rule. Free of torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from .algorithms.algorithm import NEEDS, Algorithm, AlgorithmConfig
from .algorithms.registry import installed_algorithms, usable_algorithms
from .networks.declaration import BUILT_IN, Layer, Linear, built_in

if TYPE_CHECKING:
    from .algorithms.dqn import DQN

DEFAULT_TARGET_EVERY_UPDATES = 500

_CUSTOM_NETWORK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

Positive = Annotated[int, Meta(gt=0)]
Rate = Annotated[float, Meta(ge=0.0, lt=1.0)]


class _Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Q-network and its learning rule, shared by every role that acts or learns.

    Single fields are checked when the table is read; `problems` names combinations that contradict each
    other. Each installed algorithm has a field of its name with its settings, the table `[agent.NAME]`.
    """

    renamed_keys: ClassVar[dict[str, str]] = {"double": "dqn.double", "loss": "dqn.loss"}
    """Former keys of settings, so that earlier files keep working."""

    algorithm: Annotated[
        str,
        Meta(
            description="The member of the Q family, by its name; its settings are a table [agent.NAME].",
            extra_json_schema={"enum": list(usable_algorithms())},
        ),
    ] = "dqn"
    network: Annotated[
        str | tuple[Layer, ...],
        Meta(
            description="The Q-network: mlp, nature_cnn, minatar_cnn, a list of layers such as"
            ' { layer = "linear", width = 128 }, or your own as package.module:Class.'
        ),
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
    n_step: Annotated[int, Meta(gt=0, description="Environment steps summed before bootstrapping.")] = 3
    gamma: Annotated[float, Meta(ge=0.0, le=1.0, description="Discount per environment step.")] = 0.99
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
        Meta(description="Updates between two copies of the online to the target network. Left out: 500."),
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
        return isinstance(self.network, str) and self.network not in BUILT_IN

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """`hidden`, or the network's default if that is left out; empty for a custom network."""
        if not isinstance(self.network, str):
            return tuple(layer.width for layer in self.network if isinstance(layer, Linear))
        default = BUILT_IN[self.network][1] if self.network in BUILT_IN else ()
        return default if self.hidden is None else self.hidden

    @property
    def _called(self) -> str:
        return repr(self.network) if isinstance(self.network, str) else "a list of layers"

    @property
    def layers(self) -> Sequence[Layer]:
        """The declared layers without the head; empty for a custom network."""
        if not isinstance(self.network, str):
            return self.network
        return () if self.custom else built_in(self.network, self.hidden_widths)

    @property
    def outputs_per_action(self) -> int:
        """Outputs of the network for each action."""
        return self.make_algorithm().outputs_per_action

    def make_algorithm(self) -> Algorithm:
        """The chosen algorithm with its settings. Raises ValueError where no package offers it."""
        cls = usable_algorithms().get(self.algorithm)
        if cls is None:
            raise ValueError(f"no package installed here offers an algorithm {self.algorithm!r}")
        return cls(self.settings)

    @property
    def settings(self) -> AlgorithmConfig:
        """Settings of the chosen algorithm."""
        found: AlgorithmConfig = getattr(self, self.algorithm)
        return found

    def target_updates(self, updates: int) -> int:
        """The update, at most `updates`, after which the target network last changed; 0: none yet."""
        if self.polyak is not None:
            return updates
        every = self.target_every_updates or DEFAULT_TARGET_EVERY_UPDATES
        return updates - updates % every

    def copies_target(self, updates: int) -> bool:
        """Whether this update copies the online network to the target network."""
        return self.polyak is None and self.target_updates(updates) == updates

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, sentence) for each setting that another one contradicts."""
        yield from self._algorithm_problems()
        yield from self._network_problems()
        if self.target_every_updates is not None and self.polyak is not None:
            yield "polyak", "the target network follows by target_every_updates or by polyak, not both"
        if self.optimizer != "adam" and self.adam_betas is not None:
            yield "adam_betas", f"adam_betas is for adam, and the optimizer is {self.optimizer}"
        if self.optimizer != "rmsprop" and self.rmsprop_decay is not None:
            yield "rmsprop_decay", f"rmsprop_decay is for rmsprop, and the optimizer is {self.optimizer}"

    def _algorithm_problems(self) -> Iterator[tuple[str, str]]:
        found = installed_algorithms().get(self.algorithm)
        if found is None:
            near = difflib.get_close_matches(self.algorithm.lower(), usable_algorithms(), n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"installed: {', '.join(usable_algorithms())}"
            yield "algorithm", f'unknown algorithm "{self.algorithm}"; {hint}'
        elif isinstance(found, str):
            yield "algorithm", f'"{self.algorithm}" {found}'
        else:
            for field, sentence in self.settings.problems():
                yield f"{self.algorithm}.{field}", sentence
            yield from self._needs_problems()
            for name, other in usable_algorithms().items():
                # The default's may stay where another one is chosen, as by --set agent.algorithm.
                if name not in (self.algorithm, "dqn") and getattr(self, name) != other.Config():
                    right = f'leave them out, or set algorithm = "{name}"'
                    yield name, f'has settings, and agent.algorithm is "{self.algorithm}": {right}'

    def _needs_problems(self) -> Iterator[tuple[str, str]]:
        needs: Any = self.make_algorithm().needs  # a third party may declare anything
        if isinstance(needs, str) or not NEEDS.issuperset(needs):
            known = ", ".join(sorted(NEEDS))
            yield "algorithm", f'"{self.algorithm}" needs {needs!r}: it has to be a set of {known}'

    def _network_problems(self) -> Iterator[tuple[str, str]]:
        if self.custom and not _CUSTOM_NETWORK.fullmatch(str(self.network)):
            near = difflib.get_close_matches(str(self.network), BUILT_IN, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            allowed = ", ".join(BUILT_IN)
            yield "network", f"{self.network!r} is none of {allowed}, nor a 'package.module:Class'{guess}"
        elif self.network not in BUILT_IN and self.hidden is not None:
            yield "hidden", f"hidden is for the built-in networks; {self._called} chooses its own layers"
        if self.custom and self.dueling:
            yield "dueling", f"dueling is for declared networks; {self.network!r} makes its own outputs"
        elif self.dueling and not self.hidden_widths:
            lacks = "hidden is []" if isinstance(self.network, str) else "network has no linear layer"
            yield "dueling", f"dueling splits the last hidden layer in two streams, and {lacks}"


def _settings() -> list[tuple[str, Any, Any]]:
    """A field of each installed algorithm's settings, under its name."""
    return [
        (
            name,
            Annotated[found.Config, Meta(description=f"Settings of the algorithm {name}.")],
            msgspec.field(default_factory=found.Config),
        )
        for name, found in usable_algorithms().items()
    ]


if TYPE_CHECKING:

    class Agent(_Agent, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """See _Agent."""

        dqn: DQN.Config = DQN.Config()

else:
    Agent = msgspec.defstruct(
        "Agent",
        _settings(),
        bases=(_Agent,),
        module=__name__,
        namespace={"__doc__": _Agent.__doc__},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
