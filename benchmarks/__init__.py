"""What the service costs, measured beside what else one could have written. `python -m benchmarks` runs it all."""
