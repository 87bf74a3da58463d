"""What several roles share: base class, wiring checks, executors, semaphores, retries."""
