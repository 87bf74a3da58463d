"""Rendering of topologies: for a terminal, as Mermaid, as TOML, and descriptions of roles."""
