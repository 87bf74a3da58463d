"""A coordinator that sizes batches by speed, with workers whose speeds the test sets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import pytest

from actorq.actors import ActorSpec, Group, Ref, Refused, System
from actorq.actors.spec import GroupSpec, RestartLimits, derive_seed
from actorq.learning.agent import Agent
from actorq.learning.distributed.encoded import Encoded
from actorq.learning.networks.factory import make_parameters
from actorq.learning.optimizers import clip_gradient_norm, make_optimizer
from actorq.learning.target import TargetNetwork
from actorq.learning.update import LearningRule
from actorq.replay.chunk import Batch
from actorq.roles.learner.worker import Worker
from actorq.roles.parameter_server.messages import Gradient, Pull, Pulled, Push, Pushed, Ticket
from actorq.roles.replay.messages import Version
from actorq.roles.replay.rate_limiter import RateLimiterActor
from actorq.roles.replay.shard import ReplayShard
from actorq.testing import Record
from tests.actors.world import AT_ONCE, fresh, spec
from tests.roles.learner.learners import learners
from tests.roles.topologies import Diligent, Level, batch_of, names_of
from tests.roles.topologies import crew as working

from .server import AGENT, SIZE, Bystander, Workers, server
from .test_parallel_equals_serial import RMSPROP, UPDATES, WITHIN, Vector, joined

pytestmark = pytest.mark.anyio


class Told(NamedTuple):
    worker: int
    version: Version
    rows: int
    delivery_state: str
    seconds: float
    """When the answer came."""


class Timed(Bystander):
    """Pushes gradients of as many rows as it is told, after the time that these take it."""

    rows_per_second: ClassVar[tuple[float, ...]]
    answers: ClassVar[Record[Told]]
    dies_at: ClassVar[dict[int, float]] = {}
    """When a worker's first life ends, in seconds."""

    servers: Group[Gradient]
    coordinator: Ref[Pull | Push]

    async def run(self) -> None:
        if self.restarts == 0 and self.index in self.dies_at:
            self.start_soon(self._die, self.dies_at[self.index])
        pulled: Pulled = await self.coordinator.ask(Pull(self.index, True, self.restarts))
        for number in count(1):
            pulled = await self._push(number, pulled)

    async def _die(self, seconds: float) -> None:
        await self.sleep(seconds)
        raise RuntimeError("it has had enough")

    async def _push(self, number: int, pulled: Pulled) -> Pulled:
        rows = pulled.rows or AGENT.batch_size
        await self.sleep(rows / self.rows_per_second[self.index])
        ticket = Ticket(self.index, self.restarts, number)
        gradient = np.full(SIZE, float(self.index))
        await self.servers[0].tell(Gradient(ticket, pulled.version, Encoded("whole", SIZE, gradient)))
        push = Push(ticket, pulled.version, gradient.nbytes, 0, rows=rows)
        pushed: Pushed = await self.coordinator.ask(push)
        self.answers.add(Told(self.index, pulled.version, rows, pushed.delivery_state, self.now()))
        assert pushed.pulled is not None
        return pushed.pulled


def crew(rows_per_second: tuple[float, ...], answers: Record[Told], **given: Any) -> list[Any]:
    dies_at = given.pop("dies_at", {})
    timed = fresh(Timed, rows_per_second=rows_per_second, answers=answers, dies_at=dies_at)
    batch = AGENT.batch_size
    assert batch == 4
    specs = server(1, len(rows_per_second), coordinator=Level, rule="synchronous", **given)
    ports = {"servers": ("server",), "coordinator": ("coordinator",)}
    return [replace(spec, cls=timed, ports=ports) if spec.cls is Bystander else spec for spec in specs]


async def answers_of(
    rows_per_second: tuple[float, ...], number: int, backoff_seconds: float = 0.0, **given: Any
) -> list[Told]:
    answers = Record[Told]()
    specs = crew(rows_per_second, answers, **given)
    groups = (GroupSpec(limits=RestartLimits(backoff_seconds=backoff_seconds)),)
    async with System(specs, groups, deterministic=True):
        await answers.reaches(number)
    return answers.entries[:number]


def by_version(answers: list[Told]) -> dict[int, dict[int, Told]]:
    rounds: dict[int, dict[int, Told]] = defaultdict(dict)
    for told in answers:
        rounds[told.version.updates][told.worker] = told
    return rounds


async def test_work_is_dealt_by_speed_and_its_sum_stays() -> None:
    answers = await answers_of((300.0, 100.0), 200, deal="speed")
    rounds = list(by_version(answers).values())
    assert all(sum(told.rows for told in each.values()) == 8 for each in rounds)
    assert [told.rows for _, told in sorted(rounds[0].items())] == [4, 4]
    assert [told.rows for _, told in sorted(rounds[-1].items())] == [6, 2]
    assert {told.delivery_state for told in answers} == {"accepted"}
    ends = [each[0].seconds for each in rounds]
    assert ends[0] == pytest.approx(4 / 100), "the fast one waits"
    assert ends[-1] - ends[-2] == pytest.approx(2 / 100), "both are done together"


async def test_all_have_the_batch_size_unless_it_is_by_speed() -> None:
    answers = await answers_of((300.0, 100.0), 40)
    assert {told.rows for told in answers} == {4}


async def test_a_straggler_is_waited_for_until_the_timeout() -> None:
    """A gradient of worker 2 takes 4 s, the others' 0.01 s: it comes too late, and is dealt less."""
    rates = (400.0, 400.0, 1.0)
    answers = await answers_of(rates, 300, wait_at_most_seconds=0.5, deal="speed")
    rounds = by_version(answers)
    delivery_states = {
        worker: [told.delivery_state for told in answers if told.worker == worker] for worker in range(3)
    }
    assert set(delivery_states[0] + delivery_states[1]) == {"accepted"}
    assert delivery_states[2][0] == "late"
    assert answers[-1].version.updates > 40, "the others go on meanwhile"
    ends = [
        max(told.seconds for told in each.values() if told.delivery_state == "accepted")
        for each in rounds.values()
    ]
    assert max(np.diff(ends)) <= 0.5 + 0.1
    assert [told.rows for told in answers if told.worker == 2][-1] == 1, "it is dealt as little as can be"


async def test_no_round_is_cut_off_that_is_done_in_time() -> None:
    answers = await answers_of((400.0, 100.0), 100, wait_at_most_seconds=0.05)
    assert {told.delivery_state for told in answers} == {"accepted"}
    assert all(len(each) == 2 for each in by_version(answers).values())


async def test_a_late_gradient_does_not_hurry_the_next_round() -> None:
    """A gradient takes 0.4, 0.95 and 0.85 s: each round lasts 0.9 s, and worker 1 comes in the next one."""
    answers = await answers_of((4 / 0.4, 4 / 0.95, 4 / 0.85), 60, wait_at_most_seconds=0.5)
    delivery_states = {
        worker: {told.delivery_state for told in answers if told.worker == worker} for worker in range(3)
    }
    assert delivery_states == {0: {"accepted"}, 1: {"late"}, 2: {"accepted"}}
    ends = [told.seconds for told in answers if told.worker == 0]
    np.testing.assert_allclose(np.diff(ends), 0.9)


async def test_a_round_restarts_when_its_first_worker_dies() -> None:
    """Worker 0 is there after 0.1 s, dies at 0.2 s and is there again at 0.3 s; worker 1 takes 0.75 s."""
    told = await answers_of((4 / 0.1, 4 / 0.75), 2, wait_at_most_seconds=0.5, dies_at={0: 0.2})
    assert {(each.worker, each.version.updates, each.delivery_state) for each in told} == {
        (0, 0, "accepted"),
        (1, 0, "accepted"),
    }
    assert told[0].seconds == pytest.approx(0.75)


async def test_an_update_is_of_as_many_rows_as_the_living_have_at_the_batch_size() -> None:
    answers = await answers_of((100.0,) * 3, 120, backoff_seconds=0.2, deal="speed", dies_at={1: 0.41})
    sums = [sum(told.rows for told in each.values()) for each in by_version(answers).values()]
    assert sums[:10] == [12] * 10
    assert sums[10:12] == [8, 8], "the round that it died in, and one of the two who live"
    assert set(sums[:-1]) == {12, 8}
    assert sums[-2] == 12, "it has come back"
    assert {told.delivery_state for told in answers} == {"accepted"}


async def test_a_gradient_over_nothing_is_refused() -> None:
    async with System(server(1, 1), AT_ONCE) as system:
        workers = Workers(system)
        version = (await workers.pull()).version
        ticket = workers.ticket(0)
        await workers.send(np.zeros(SIZE), version, ticket)
        with pytest.raises(Refused, match="at least 1 transition; this one is over 0"):
            await workers.coordinator.ask(Push(ticket, version, 0, 0, rows=0))


# Real workers.


AGENT_OF_EACH = msgspec.structs.replace(RMSPROP, batch_size=24)
WIDE = msgspec.structs.replace(RMSPROP, batch_size=3 * 24)
"""No worker is dealt more than all together have."""


class Dealt(Diligent):
    """Learns from as many rows as it is dealt, each of which takes it so many seconds."""

    seconds_per_row: ClassVar[tuple[float, ...]]
    seen: ClassVar[dict[tuple[int, int], int]]
    """Rows, by worker and number."""

    def _draw(self) -> Batch:
        self.seen[self.index, self._drawn] = self._method.rows
        return first(batch_of(WIDE, self.index, self._drawn), self._method.rows)

    async def _learn_from(self, batch: Batch) -> None:
        await self.sleep(len(batch) * self.seconds_per_row[self.index])
        await super()._learn_from(batch)


def first(batch: Batch, rows: int) -> Batch:
    return Batch(**{name: getattr(batch, name)[:rows] for name in Batch.__struct_fields__})


async def test_unequal_batches_are_one_batch_of_all_rows() -> None:
    resting, seen = Record[int](), dict[tuple[int, int], int]()
    worker = fresh(
        Dealt, gradients=UPDATES, resting=resting, seconds_per_row=(0.001, 0.002, 0.008), seen=seen
    )
    specs = working(worker, 3, 2, AGENT_OF_EACH, rule="synchronous", deal="speed")
    async with System(specs, AT_ONCE, deterministic=True) as system:
        await resting.reaches(3)
    dealt = [[seen[index, number] for index in range(3)] for number in range(1, UPDATES + 1)]
    assert {sum(rows) for rows in dealt} == {72}
    assert dealt[0] == [24, 24, 24]
    assert dealt[-1][0] > 1.8 * dealt[-1][1] > 5 * dealt[-1][2], "as fast as they are"
    expected = one_learner(
        AGENT_OF_EACH,
        [
            joined([first(batch_of(WIDE, index, number), rows) for index, rows in enumerate(each)])
            for number, each in enumerate(dealt, 1)
        ],
    )
    parameters = np.concatenate(
        [system.final_states[name]["points"][-1]["parameters"] for name in names_of("server", 2)]
    )
    np.testing.assert_allclose(parameters, expected, rtol=0, atol=WITHIN[RMSPROP.dtype])


def one_learner(agent: Agent, batches: list[Batch]) -> Vector:
    """The parameters after an update with each of the batches."""
    online = make_parameters(agent, (4,), np.float32, 2, derive_seed(0, "coordinator"))
    target = TargetNetwork(agent, online)
    rule = LearningRule(agent, online, target.parameters)
    optimizer = make_optimizer(agent, online.vector, online.gradient)
    assert agent.max_gradient_norm is not None
    for number, batch in enumerate(batches, 1):
        rule(batch)
        clip_gradient_norm(online.gradient, agent.max_gradient_norm)
        optimizer.step()
        target.follow(number)
    return online.read()


# What `actorq check` says.


@pytest.mark.parametrize(
    ("deal", "compile", "problem"),
    [
        ("speed", "reduce-overhead", True),
        ("speed", "default", False),
        ("equal", "reduce-overhead", False),
    ],
)
def test_cuda_graphs_want_batches_of_one_size(deal: Any, compile: Any, problem: bool) -> None:
    config = Worker.Config(compile=compile)
    specs = working(Worker, 2, 1, AGENT_OF_EACH, worker_config=config, rule="synchronous", deal=deal)
    problems = wiring_problems_of("worker.0", specs)
    assert [where for where, _ in problems] == ["config.compile"] * problem


@pytest.mark.parametrize(
    ("deal", "buffer", "problem"),
    [("speed", 248.0, False), ("speed", 247.0, True), ("equal", 128.0, False), ("equal", 127.0, True)],
)
@pytest.mark.parametrize("keeper", ["replay", "limiter"])
def test_the_largest_draw_passes_the_rate_limiter(
    deal: Any, buffer: float, problem: bool, keeper: str
) -> None:
    """Of two learners at 32 rows one is dealt 2 · 32 - 2 = 62 at most; each draws four batches at once."""
    agent = msgspec.structs.replace(AGENT, batch_size=32)
    specs = learners([("replay",)] * 2, 1, agent, rule="synchronous", deal=deal)
    pace: Any = {"samples_per_insert": 2.0, "error_buffer_samples": buffer}
    if keeper == "limiter":
        limiter = spec("limiter", RateLimiterActor, config=RateLimiterActor.Config(**pace))
        specs += [limiter, spec("replay", ReplayShard, {"limiter": "limiter"})]
    else:
        specs += [spec("replay", ReplayShard, config=ReplayShard.Config(**pace))]
    problems = wiring_problems_of("learner.0", specs)
    assert [where for where, _ in problems] == ["config.batches_per_ask"] * problem
    if problem:
        most = 248 if deal == "speed" else 128
        assert f"= {most} samples, more than error_buffer_samples = {buffer:g} of {keeper}" in problems[0][1]


def wiring_problems_of(name: str, specs: list[ActorSpec]) -> list[tuple[str, str]]:
    named = {spec.name: spec for spec in specs}
    return list(named[name].cls.wiring_problems(named[name], named))
