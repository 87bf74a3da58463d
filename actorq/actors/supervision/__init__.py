"""Restart strategies, node membership, control messages between coordinator and nodes, death watch."""
