"""Files of a run: metrics, TensorBoard events, checkpoints, summary."""
