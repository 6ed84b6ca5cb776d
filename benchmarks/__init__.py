"""Measurements of lami and of what it is compared with; run as `python -m benchmarks.ops`."""
