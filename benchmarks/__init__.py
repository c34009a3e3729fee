"""What recording costs: whole processes with and without it, side by side in one run. ``python -m benchmarks``."""
