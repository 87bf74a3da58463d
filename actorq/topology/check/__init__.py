"""Validation of a topology: every problem in one list, before anything starts."""
