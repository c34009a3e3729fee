"""What became better or worse between two runs."""
