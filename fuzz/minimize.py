"""Find the few cases of a group, and the few fields of those, that show a fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cases import Case

Shows = Callable[[Sequence[Case]], str | None]


def smallest(cases: Sequence[Case], fault: str, shows: Shows) -> tuple[Sequence[Case], str]:
    """Halve the cases while one half shows a fault, then leave out what can be."""
    cases, fault = _halved(cases, fault, shows)
    return _simpler(cases, fault, shows)


def _halved(cases: Sequence[Case], fault: str, shows: Shows) -> tuple[Sequence[Case], str]:
    while len(cases) > 1:
        middle = len(cases) // 2
        for half in (cases[:middle], cases[middle:]):
            if said := shows(half):
                cases, fault = half, said
                break
        else:
            break  # only together
    return cases, fault


def _simpler(cases: Sequence[Case], fault: str, shows: Shows) -> tuple[Sequence[Case], str]:
    """Take the first simpler version that still shows a fault, until none does."""
    tried = True
    while tried:
        tried = False
        for version in _versions(cases):
            if said := shows(version):
                cases, fault, tried = version, said, True
                break
    return cases, fault


def _versions(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """List what is one case less, or one part of a case less."""
    for at, case in enumerate(cases):
        before, after = cases[:at], cases[at + 1 :]
        if len(cases) > 1:
            yield [*before, *after]
        for version in _parts_less(case):
            yield [*before, version, *after]


def _parts_less(case: Case) -> Iterator[Case]:
    for at in range(len(case.then)):
        yield dataclasses.replace(case, then=case.then[:at] + case.then[at + 1 :])
    if case.headers:
        yield dataclasses.replace(case, headers=())
    for body in _fields_less(case.body):
        yield dataclasses.replace(case, body=body)


def _fields_less(value: Any) -> Iterator[Any]:
    """List a JSON value with one member less, however deep."""
    members: list[Any] = []
    if isinstance(value, dict):
        members = list(value)
    elif isinstance(value, list):
        members = list(range(len(value)))[:20]
    for member in members:
        copied = value.copy()
        del copied[member]
        yield copied
        for inner in _fields_less(value[member]):
            copied = value.copy()
            copied[member] = inner
            yield copied
