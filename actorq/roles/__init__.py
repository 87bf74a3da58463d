"""The actors that train: thin shells around learning/, replay/ and envs/, one folder for each system."""
