"""Choose who is served next: fair scheduling policies, and what they charge."""
