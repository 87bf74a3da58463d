"""The actors that train: thin shells around dqn/, replay/ and envs/."""
