"""What ``benchmarks/tree.py`` is made of."""
