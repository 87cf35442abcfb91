"""Bindings of the policy to what engines have."""
