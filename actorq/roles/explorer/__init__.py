"""Explorers: actors that step environments and add n-step transitions to replay."""
