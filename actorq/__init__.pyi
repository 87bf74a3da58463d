"""What type checkers see: the names that __init__.py loads at first use."""

from actorq.actors import Actor as Actor
from actorq.actors import ActorDied as ActorDied
from actorq.actors import ActorFailed as ActorFailed
from actorq.actors import ActorqError as ActorqError
from actorq.actors import CircularWait as CircularWait
from actorq.actors import Config as Config
from actorq.actors import DeadLetter as DeadLetter
from actorq.actors import DefinitionError as DefinitionError
from actorq.actors import Fatal as Fatal
from actorq.actors import Feed as Feed
from actorq.actors import Group as Group
from actorq.actors import Message as Message
from actorq.actors import MessageTooLarge as MessageTooLarge
from actorq.actors import NotCarried as NotCarried
from actorq.actors import Ref as Ref
from actorq.actors import Refused as Refused
from actorq.actors import Request as Request
from actorq.actors import State as State
from actorq.actors import Stopping as Stopping
from actorq.actors import Table as Table
from actorq.actors import Topic as Topic
from actorq.actors import handles as handles
from actorq.run.open_run import Run as Run
from actorq.run.open_run import RunFailed as RunFailed
from actorq.run.open_run import open_run as open_run
from actorq.run.open_run import run as run
from actorq.run.records.recorder import Progress as Progress
from actorq.run.records.summary import Summary as Summary
from actorq.topology import Topology as Topology
from actorq.topology import TopologyError as TopologyError
from actorq.topology import load as load

__version__: str
__all__: list[str]
