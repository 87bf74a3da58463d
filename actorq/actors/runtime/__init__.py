"""What runs actors within one process: mailboxes, channels, incarnations, scheduling, deadlock detection."""
