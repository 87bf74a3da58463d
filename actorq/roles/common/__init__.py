"""Common parts of the roles: base class, rollouts, wiring checks, executors."""
