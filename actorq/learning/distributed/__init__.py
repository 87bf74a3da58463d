"""Gradient codecs, update rules, averaging rules, sharding and batch sizing."""
