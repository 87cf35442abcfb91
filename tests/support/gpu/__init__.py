"""What the tests of tests/gpu have in common."""
