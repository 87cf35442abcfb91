"""What ``benchmarks/fairness.py`` is made of."""
