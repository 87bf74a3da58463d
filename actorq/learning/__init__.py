"""The mathematics of deep Q-learning: plain functions and objects that know no actors.

Import the module that holds what is needed. Free of torch, so that exploring and checking a topology never
load it:

- `agent`: the `[agent]` table, `Agent`
- `exploration`: epsilon schedules, the Ape-X ladder, epsilon-greedy choice
- `device`: names of devices (imports torch when asked to resolve one)
- `algorithms`: the interface of a member of the Q family, the installed ones, and `algorithms.dqn`
- `networks.declaration`: the layers that networks are declared with, and the shapes that follow from them
- `networks.spec`: the layers of an `[agent]` for the spaces of its tasks, and which observations it takes
- `networks.numpy_acting`: Q-values of the current weights, in numpy for networks without convolutions
- `networks.task_layout`: layout of the vector that several tasks share
- `networks.custom`: lookup of the user's own network class
- `pipeline.partition`, `pipeline.activations`: a network in stages, and the tensors sent between them
- `distributed.encoded`, `distributed.sharding`: a vector as it is sent, and its slices by shard
- `distributed.update_rules`, `update_rule_settings`: when pushed gradients become an update
- `distributed.batch_sizing`: batch sizes by the measured speed of workers

With torch:

- `update`: the learning rule, from parameters and a batch to a gradient; `staging`: batches on the device
- `optimizers`, `target`, `popart`, `compiling`: steps, target network, adaptive reward scales, torch.compile
- `networks`: `flat` parameters as views into one vector, `module` and `factory` of declared and custom
networks,
  forward and backward `backends`, `torch_acting`
- `distributed`: `codecs` and `deltas` of gradients and weights, `averaging_rules`, `parameter_shard`
- `pipeline`: `stage_module`, `stage_passes`, `layer_costs`
"""
