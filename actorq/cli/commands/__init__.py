"""The commands that start something: run, eval and node."""
