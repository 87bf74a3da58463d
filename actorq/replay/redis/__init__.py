"""A store in Redis: chunks as binary values, written by a replay shard and read by learners directly.

The extra `redis` has what it takes; nothing of it is imported before it is needed.
"""
