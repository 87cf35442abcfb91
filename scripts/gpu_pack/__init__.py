"""What scripts/pack_gpu.py is made of."""
