"""What is timed, as ratios: `make bench` runs them all, `python -m tests.bench.NAME` one of them."""
