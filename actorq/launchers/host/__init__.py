"""Nodes on other hosts, which join over TLS with a token."""
