"""Replay: a priority index and a store, addressed by ids; knows no actors and no torch."""
