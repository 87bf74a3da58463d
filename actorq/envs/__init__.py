"""Gymnasium environments in which a DQN can act, and GridWorld, whose exact values are known.

Importing this package imports nothing; `task` is free of gymnasium, `make` builds the environments.
"""
