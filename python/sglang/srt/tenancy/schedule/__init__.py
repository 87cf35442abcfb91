"""Whose turn it is: fair scheduling policies, and what they charge."""
