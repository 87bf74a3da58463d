"""Inference servers: one network acts for many explorers in dynamic batches."""
