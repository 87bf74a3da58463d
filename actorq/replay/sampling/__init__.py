"""Sampling: which transitions are drawn, uniformly or in proportion to priority."""
