"""What each cell and task cost."""
