"""A topology drawn for a terminal, as Mermaid, as TOML, and described role by role."""
