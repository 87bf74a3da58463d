"""What a run leaves behind: metrics, TensorBoard events, checkpoints, summary."""
