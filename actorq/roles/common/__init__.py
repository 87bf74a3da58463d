"""What several roles share: base class, rollouts, wiring checks, executors, semaphores, retries."""
