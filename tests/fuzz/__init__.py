"""Fuzzing, for as long as one likes; see the module."""
