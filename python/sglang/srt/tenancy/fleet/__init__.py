"""Send an operator's order to every replica: ``python -m sglang.srt.tenancy.fleet --help``.

Imports nothing of the engine, and nothing else of this fork.
"""
