"""Workers that only push gradients and read parameters, as fast as they get replies."""

from __future__ import annotations

from contextlib import suppress

import actorq.actors as actors
from actorq.actors import Group, Ref, Refused
from actorq.roles.parameter_server.messages import Fetch, Gradient, Pull, Push, Ticket


class Pusher(actors.Actor):
    """Its gradient is the same every time, but encoded anew, as a worker's is."""

    class Config(actors.Config):
        size: int
        reads: bool = True

    servers: Group[Gradient | Fetch]
    coordinator: Ref[Pull | Push]

    async def run(self) -> None:
        with suppress(Refused):  # the run is stopping
            await self._push_and_read()

    async def _push_and_read(self) -> None:
        import torch

        from actorq.roles.parameter_server.gradients import GradientSlices
        from actorq.roles.parameter_server.weights_reader import WeightsReader

        torch.set_num_threads(1)
        size = self.config.size
        gradient = torch.full((size,), 1e-3)
        slices = GradientSlices(gradient, len(self.servers), "whole", 0.01)
        reader = WeightsReader(self.servers, self.index, torch.empty(size), torch.empty(size))
        pulled = await self.coordinator.ask(Pull(self.index, True))
        number = 0
        while True:
            if self.config.reads:
                await reader.fetch(pulled)
            number += 1
            ticket = Ticket(self.index, self.restarts, number)
            for server, slice in zip(self.servers, slices.encode(), strict=True):
                await server.tell(Gradient(ticket, pulled.version, slice))
            push = Push(ticket, pulled.version, 4 * size, 0, self.config.reads)
            pulled = (await self.coordinator.ask(push)).pulled or pulled
