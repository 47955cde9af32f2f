"""Measurements of speed and memory; each writes a JSON file below `benchmarks/results/`."""
