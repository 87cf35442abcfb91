"""The one error that a user of the tool sees."""

from __future__ import annotations


class Refusal(Exception):
    """The tool did nothing; the text names what is in the way and the way out."""
