"""Whether who acts follows one learner's weights."""

from __future__ import annotations

from collections.abc import Iterator

from actorq.actors import ActorSpec


def weights_problems(spec: ActorSpec) -> Iterator[tuple[str, str]]:
    """Of several publishers each has parameters of its own, and the newest would be anyone's."""
    publishers = spec.ports.get("weights", ())
    if len(publishers) > 1:
        yield (
            "ports.weights",
            f"{', '.join(publishers[:2])}{', …' if len(publishers) > 2 else ''} have parameters of their own,"
            " and it can follow one: have learners meet at a root, and follow that",
        )
