"""Draw values of a type: what a field says it takes, at the borders of what makes sense.

The types are upstream's own, read from its classes: the next release's come by themselves.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import random
import types
import typing
from typing import Annotated, Any

import msgspec
import pydantic
from typing_extensions import NotRequired, Required
from values import BORDERS, FRACTIONS, NAMES, PROMPT, draw

_LENGTHS = (0, 1, 1, 2, 2, 3, 9)
_MOST_NESTED = 6
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)

_known: dict[type[Any], dict[str, tuple[Any, bool]]] = {}


def value_of(hint: Any, random: random.Random, depth: int = 0) -> Any:
    """Draw a value that a field of this type may have; now and then one that it may not."""
    if depth > _MOST_NESTED or random.random() < 0.03:
        return draw(random, 2)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Annotated, Required, NotRequired):
        return value_of(inner[0], random, depth)
    if origin in (typing.Union, types.UnionType):
        return value_of(random.choice(inner), random, depth)
    if origin is typing.Literal:
        return random.choice(inner)
    if (origin or hint) in _SEQUENCES:
        length = random.choice(_LENGTHS)
        return [value_of(_one(inner), random, depth + 1) for _ in range(length)]
    if (origin or hint) in _MAPPINGS:
        kind = inner[1] if len(inner) > 1 else Any
        return {
            random.choice(NAMES): value_of(kind, random, depth + 1)
            for _ in range(random.choice(_LENGTHS[:5]))
        }
    if isinstance(hint, type):
        return _of_class(hint, random, depth)
    return draw(random, 2)


def object_of(kind: type[Any], random: random.Random, depth: int = 0) -> dict[str, Any]:
    """Draw an object of a class: what it must have, mostly, and some of what it may have."""
    return {
        name: value_of(hint, random, depth + 1)
        for name, (hint, needed) in fields_of(kind).items()
        if random.random() < (0.97 if needed else 0.2)
    }


def fields_of(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Return the fields of a class by their names in JSON: type, and whether it must be there."""
    if kind not in _known:
        _known[kind] = _read_fields(kind)
    return _known[kind]


def _read_fields(kind: type[Any]) -> dict[str, tuple[Any, bool]]:
    if issubclass(kind, pydantic.BaseModel):
        return {
            field.alias or name: (field.annotation, field.is_required())
            for name, field in kind.model_fields.items()
        }
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory}
        hints = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    elif issubclass(kind, msgspec.Struct):
        needed = {field.name for field in msgspec.structs.fields(kind) if field.required}
        hints = {name: hints[name] for name in kind.__struct_fields__}
    else:
        needed = set(getattr(kind, "__required_keys__", ()))
    return {name: (hint, name in needed) for name, hint in hints.items()}


def _one(inner: tuple[Any, ...]) -> Any:
    return inner[0] if inner else Any


def _of_class(kind: type[Any], random: random.Random, depth: int) -> Any:
    if kind is bool:
        return random.choice((True, False))
    if kind is int:
        return random.choice(BORDERS)
    if kind is float:
        return random.choice(FRACTIONS)
    if kind in (str, bytes):
        # Inside of messages: what a name is may be logged.
        return random.choice((*NAMES, PROMPT) if depth > 2 else NAMES)
    if kind is type(None):
        return None
    if issubclass(kind, enum.Enum):
        return random.choice(list(kind)).value
    try:
        return object_of(kind, random, depth) if fields_of(kind) else draw(random, 2)
    except (TypeError, NameError):  # no class with fields
        return draw(random, 2)
