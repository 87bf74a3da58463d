"""The learner under failures: a state taken during an update, divergence, crashes of its replay."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from actorq.actors import ActorFailed, ActorSpec, State, System, handles
from actorq.envs.task import Task
from actorq.learning.agent import Agent
from actorq.learning.algorithms.dqn import DQN
from actorq.replay.chunk import Chunk
from actorq.roles.learner.learner import Learner
from actorq.roles.replay.messages import DrawSample, Insert, SampleReply, Version
from actorq.roles.replay.shard import ReplayShard
from tests.actors.world import AT_ONCE
from tests.replay.chunks import make_chunk
from tests.roles.actors import Watch, spec

pytestmark = pytest.mark.anyio

AGENT = Agent(hidden=(8,), batch_size=4, dqn=DQN.Config(loss="squared"))


def actors(
    learner: type[Learner] = Learner, replay: type[ReplayShard] = ReplayShard, **rest: Any
) -> list[ActorSpec]:
    memory = ReplayShard.Config(capacity=100, min_size=20, sampling="uniform")
    tables = {"task": Task(env="CartPole-v1"), "agent": AGENT}
    return [
        spec("replay", replay, config=memory),
        spec(
            "learner", learner, {"replay": "replay"}, Learner.Config(batches_per_ask=1), tables=tables, **rest
        ),
    ]


def experience(**changed: Any) -> Insert:
    chunk: Chunk = make_chunk(20, frame_shape=(4,))
    frames = np.sin(chunk.frames).astype(np.float32)
    fields = {"frames": frames, "actions": chunk.actions % 2, **changed}
    return Insert(replace_fields(chunk, **fields), Version(0, 0))


async def test_a_state_taken_during_a_long_update_is_of_one_moment() -> None:
    """Long updates are made in a thread; asked for a state meanwhile, the learner gives no half of one."""
    taken: list[State] = []

    class Slow(Learner):
        async def on_start(self) -> None:
            await super().on_start()
            self._method._executor.seconds = 1.0
            self._half = self._method._optimizer.step
            self._method._optimizer.step = self._step_and_look  # type: ignore[method-assign]

        def _step_and_look(self, gradient: Any = None) -> None:
            self._half()
            if not asking.ident:
                asking.actor = self  # type: ignore[attr-defined]
                asking.start()
                asking.join(0.02)  # with a lock it goes on waiting, and without it has half a state by now

    asking = threading.Thread(target=lambda: taken.append(asking.actor.state()))  # type: ignore[attr-defined]
    watch = Watch()
    async with System(actors(Slow), reports=watch) as system:
        await system.ref("replay").ask(experience())
        await watch.progress.has(("updates", 1))
    asking.join()
    (state,) = taken
    assert state["updates"] == state["optimizer"]["updates"] > 0


async def test_others_on_its_thread_keep_their_denormal_numbers() -> None:
    """Without them `x > 0` and `x >= the least number above 0` are no longer the same, for one."""
    watch = Watch()
    async with System(actors(), reports=watch) as system:
        await system.ref("replay").ask(experience())
        await watch.progress.has(("updates", 3))
        assert np.nextafter(np.float64(0.0), np.float64(1.0)) > 0.0


async def test_what_diverges_is_not_learned() -> None:
    """The largest return there is: its square is infinite."""
    returns = np.full(20, np.finfo(np.float32).max)

    async def learn() -> None:
        async with System(actors(), AT_ONCE) as system:
            await system.ref("replay").ask(experience(returns=returns))
            await anyio.sleep_forever()

    with pytest.raises(ActorFailed) as failed:
        await learn()
    cause = failed.value.__cause__
    assert isinstance(cause, FloatingPointError)
    assert "after 0 updates the loss is inf; a lower agent.learning_rate" in str(cause)


async def test_a_crash_of_the_replay_costs_the_learner_nothing() -> None:
    batches = 0

    class Crashing(ReplayShard):
        async def on_start(self) -> None:
            await super().on_start()
            await self._backend.add(experience().chunk)
            await self._admit_insert(20)

        @handles(concurrent=64)
        async def sample(self, request: DrawSample) -> SampleReply:
            nonlocal batches
            batches += 1
            if batches == 10:
                raise RuntimeError("forgot everything")
            return await super().sample(request)

    watch = Watch()
    async with System(actors(replay=Crashing), AT_ONCE, reports=watch) as system:
        await watch.progress.has(("updates", 30))
        restarts = [actor.restarts for actor in system.statistics().actors]
    assert restarts == [1, 0]
    assert system.final_states["learner"]["updates"] >= 30
