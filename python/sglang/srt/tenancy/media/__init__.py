"""Pictures, videos and sounds of requests: what may be named by an address, and fetching it."""
