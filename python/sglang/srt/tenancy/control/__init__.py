"""Operators' requests: from the HTTP processes to the schedulers and back."""
