"""Measurements, one module each: `make bench-NAME` runs `NAME.py`; what they found stands in RESULTS.md."""
