"""A kind of text: what it is about, and what is sensitive in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from labelled_texts.writer import Writer


class Kind(NamedTuple):
    """``labels``: what is sensitive in it, nothing where it is harmless."""

    name: str
    language: str
    labels: frozenset[str]


Templates = Mapping[Kind, Callable[[Writer], str]]


def kind(name: str, language: str, *labels: str) -> Kind:
    return Kind(name, language, frozenset(labels))
