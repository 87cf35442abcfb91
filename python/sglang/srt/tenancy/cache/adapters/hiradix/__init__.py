"""Upstream 0.5.17's radix caches, with and without a host tier."""
