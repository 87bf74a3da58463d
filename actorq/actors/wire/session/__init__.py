"""A reliable session over any wire: handshake, ordering, acknowledgements, resends, shared memory."""
