"""Real caches on real pools in this process, and a request's way through them."""
