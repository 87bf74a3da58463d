"""Replay: a priority index and a store, both addressed by ids. Knows no actors, and needs no torch.

Import the module that holds what is needed:

- `buffer`: `ReplayBuffer` of one shard; `config`: its settings
- `chunk`: `Chunk`, `Sample`, `Batch`; `ids`: what an id packs
- `memory_store`: transitions that share their frames
- `sampling.prioritized`, `sampling.uniform`: indexes; numba is loaded when the first `PrioritizedIndex` is
  made
- `shares`, `sizing`: draws by shard, memory
- `redis`: the same contents in Redis
"""
