"""Remote rollout: exploration with the Q-values of an inference actor."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from actorq.actors import Ref, Stopping
from actorq.replay.chunk import Chunk
from actorq.roles.common.learning_actor import LearningActor
from actorq.roles.common.rollout import ExplorationConfig, Rollout
from actorq.roles.inference.messages import Act, Acted
from actorq.roles.replay.messages import Version


class RemoteRollout(Rollout):
    """A rollout whose observations are evaluated by an inference actor, or by its next incarnation if it
    dies.
    """

    def __init__(self, actor: LearningActor, config: ExplorationConfig, inference: Ref[Act]) -> None:
        super().__init__(actor, config)
        self._inference = inference

    async def explore(self) -> tuple[Chunk, Version]:
        """The next chunk, and the oldest version of the weights that it was explored with.

        Cancelled, it can't be continued: the chunk is lost, and so are its episodes.
        """
        questions = self.questions()
        observations, versions = next(questions), list[Version]()
        while True:
            acted = await self._ask(observations)
            versions.append(acted.version)
            try:
                observations = questions.send(acted.q_values)
            except StopIteration as end:
                chunk: Chunk = end.value
                return chunk, min(versions)

    async def _ask(self, observations: NDArray[Any]) -> Acted:
        # A copy: sending makes arrays read-only, and these are written again.
        request = Act(observations.copy(), self.choice.task)
        try:
            return await self._inference.ask(request, retry=True)
        except Stopping:
            await self._actor.event().wait()  # until this actor is stopped as well
            raise
