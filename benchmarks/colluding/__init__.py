"""Accounts in one hand against one victim, on the real tree without a server."""
