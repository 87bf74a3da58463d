"""The smallest actor, for topologies in these tests."""

from actorq.actors import Actor


class Counter(Actor):
    """Does nothing."""
