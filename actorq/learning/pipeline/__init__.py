"""A network partitioned into stages, with the forward and backward passes of each."""
