"""Benchmarks of the service, beside simpler implementations. `python -m benchmarks` runs them all."""
