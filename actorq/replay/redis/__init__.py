"""Redis store: chunks as binary values, written by a replay shard and read by learners directly.

The extra `redis` installs what it needs; nothing of it is imported earlier.
"""
