"""Quality against known truth, and speed. `python -m benchmarks.quality`, `python -m benchmarks.commands`."""
