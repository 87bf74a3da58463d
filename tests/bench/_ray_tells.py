"""Small calls to a Ray actor, one way, per second: run by an interpreter that has ray, not by this one."""

import time
from typing import Any

import ray

COUNT = 10_000


class Counter:
    """What the bench's own actor does."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, amount: int) -> None:
        self.total += amount

    def get(self) -> int:
        return self.total


ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
remote: Any = ray.remote(Counter)
counter = remote.remote()
ray.get(counter.get.remote())
best = 0.0
for _ in range(3):
    before = ray.get(counter.get.remote())
    began = time.perf_counter()
    for _ in range(COUNT):
        counter.add.remote(1)
    assert ray.get(counter.get.remote()) - before == COUNT
    best = max(best, COUNT / (time.perf_counter() - began))
print(best)
