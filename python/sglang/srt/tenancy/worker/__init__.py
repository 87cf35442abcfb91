"""A process beside the HTTP server, for work that may hold a lock, a core, or the memory."""
