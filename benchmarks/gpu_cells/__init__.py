"""What ``benchmarks/gpu.py`` is made of: measurements that are done one cell at a time."""
