"""The policy of the prefix cache, without an engine: no torch, nothing of upstream's."""
