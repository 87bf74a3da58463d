"""The commands that start actors or environments: run, eval and node."""
