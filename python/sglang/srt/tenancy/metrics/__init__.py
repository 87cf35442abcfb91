"""Show operators what the server does: Prometheus metrics, in all and by user."""
