"""What ``benchmarks/sharing.py`` is made of."""
