"""Learners that average their parameters every so many updates: local SGD and elastic averaging."""
