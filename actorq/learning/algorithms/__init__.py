"""The Q-learning algorithms, one file each."""
