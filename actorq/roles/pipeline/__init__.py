"""Model parallelism: a network in stages, with a 1F1B pipeline schedule."""
