"""One run: start, watch, stop, checkpoint, record, report."""
