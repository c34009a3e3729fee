"""What follows the work while it runs: hooks, contexts, tasks, threads, marks, RSS, start and stop."""
