"""Making gymnasium environments in which a DQN can act, and the GridWorld whose exact values are known.

Importing this package imports nothing; `task` is free of gymnasium, `make` builds the environments.
"""
