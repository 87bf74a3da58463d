"""The mathematics of deep Q-learning: plain functions and objects that know no actors.

Import the module that holds what is needed. Free of torch, so that exploring and checking a topology never
load it:

- `agent`: the `[agent]` table, `Agent`
- `exploration`: epsilon schedules, the Ape-X ladder, epsilon-greedy choice
- `returns`: n-step returns
- `acting`: Q-values of the current weights, in numpy for multilayer perceptrons
- `layout`: the shapes behind a flat vector, and which observations a network takes
- `task_layout`: where each task's network lies in the vector that several share
- `custom`: finding the user's own network class
- `cuts`, `activations`: a network cut into parts, and what travels between them
- `encoded`, `sharding`: a vector as it travels, and dealt to shards
- `update_rules`, `update_rule_settings`: when pushed gradients become an update
- `device`: names of devices (imports torch when asked to resolve one)

With torch:

- `flat`: parameters as views into one vector
- `networks`, `making`: the Q-networks, and making one from its `Agent`
- `multi_task`: one network for several tasks
- `rule`: the learning rule; `passes` and `staging` are its two halves, networks and arrays, and `q_loss` what
  stands between them
- `optimizers`, `target`: what happens after a gradient
- `codecs`, `deltas`: gradients and differences of weights, compressed
- `shard`: a parameter server's slice
- `layers`, `layer_costs`: a network made, or measured, layer by layer
- `segment`, `segment_passes`: a part of it that learns
"""
