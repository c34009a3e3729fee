"""What recording costs: whole programs, and the parts they are made of. ``python -m benchmarks`` is the whole."""
