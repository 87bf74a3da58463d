"""Messages between processes: codec, type registry, route tables and the session with each peer node."""
