"""Answers that were given before, kept for the user who asked: by this server, or by a proxy."""
