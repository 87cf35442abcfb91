"""Real servers under load: what the benchmarks that speak HTTP have in common."""
