"""nng sockets through pynng, and shared memory for large arrays on one host."""
