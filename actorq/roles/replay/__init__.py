"""Replay as actors: shards, rate limiter, Redis, and the client that samples from them."""
