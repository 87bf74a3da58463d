"""The learner: samples from replay, updates the network, publishes weights."""
