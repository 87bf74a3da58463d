"""A parameter server: shards, coordinator, and the workers that push gradients."""
