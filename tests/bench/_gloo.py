"""One of several processes that average a gradient with torch.distributed and step Adam.

`python -m tests.bench._gloo RANK WORLD SIZE STEPS FILE`; rank 0 prints the seconds of a step.
"""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as distributed


def main(rank: int, world: int, size: int, steps: int, file: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    vector, gradient = torch.zeros(size), torch.full((size,), 1e-3)
    moments = torch.zeros(size), torch.zeros(size)
    count = torch.zeros(())

    def step() -> None:
        nonlocal count
        distributed.all_reduce(gradient)
        gradient.div_(world)
        count += 1
        torch._fused_adam_(
            [vector], [gradient], [moments[0]], [moments[1]], [], [count],
            amsgrad=False, beta1=0.9, beta2=0.999, lr=1e-3, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip

    for _ in range(10):
        step()
    distributed.barrier()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    distributed.barrier()
    if rank == 0:
        print((time.perf_counter() - began) / steps)
    distributed.destroy_process_group()


if __name__ == "__main__":
    rank, world, size, steps = map(int, sys.argv[1:5])
    main(rank, world, size, steps, sys.argv[5])
