"""Nodes as child processes of this one, on the same host."""
