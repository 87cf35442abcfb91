"""Who asks what, and when: made up from a seed, or read from published traces."""
