"""What ``benchmarks/monitor.py`` is made of."""
