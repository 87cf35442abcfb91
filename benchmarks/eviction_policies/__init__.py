"""Eviction policies on real caches, and the requests that they are tried with."""
