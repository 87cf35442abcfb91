"""Say which of upstream's names that our files use are gone, or are called otherwise.

Found by syntax: imports and what is taken from them, dotted names in strings (upstream's hooks
are named so), attributes of parameters whose annotation is upstream's class, and of `self` where
a class of ours inherits from one of upstream's. What travels without a type is not seen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from .code import Code, Definition, Function, own_members, parameters

Change = Literal["gone", "signature", "unclear"]

# As a member: that the class is called.
_CALL = "()"

_DOTTED = re.compile(r"sglang(\.\w+){2,}")


@dataclass(frozen=True)
class NameDrift:
    """A name of upstream's that our files use, and what the other release did to it."""

    name: str
    change: Change
    detail: str
    users: tuple[str, ...]


@dataclass(frozen=True, order=True)
class _Use:
    """What one of our files rests on: a module or its name, and for a class a member."""

    target: str
    member: str = ""


def compare(
    own: Collection[str], base: Code, other: Code, is_own: Callable[[str], bool]
) -> tuple[int, list[NameDrift]]:
    """How many of upstream's names our files use, and those that changed.

    `own`: the paths of our files. Both `base` and `other` hold them beside upstream's,
    so that a class of ours leads to upstream's above it. `is_own`: whether a module is ours.
    """
    users: dict[_Use, set[str]] = {}
    for path in own:
        if path.endswith(".py"):
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for use in _Reader(module, base, is_own).uses():
                users.setdefault(use, set()).add(path)
    found = [
        NameDrift(_shown(use), change, detail, tuple(sorted(users[use])))
        for use in sorted(users)
        for change, detail in _changes(use, base, other)
    ]
    return len(users), found + list(_made_by_code(users, base, other))


def _made_by_code(users: dict[_Use, set[str]], base: Code, other: Code) -> Iterator[NameDrift]:
    """Classes that the other release makes by a call; syntax does not tell their members."""
    members: dict[str, list[str]] = {}
    for use in sorted(users):
        if not use.member or not _is_class(base, use.target) or _is_class(other, use.target):
            continue
        if other.resolve(use.target) is not None:
            members.setdefault(use.target, []).append(use.member)
    for target, names in members.items():
        using = {path for name in names for path in users[_Use(target, name)]}
        detail = "no `class` statement; look for " + ", ".join(f"`{name}`" for name in names)
        yield NameDrift(target, "unclear", detail, tuple(sorted(using)))


def _is_class(code: Code, target: str) -> bool:
    found = code.resolve(target)
    return found is not None and isinstance(found.node, ast.ClassDef)


def _shown(use: _Use) -> str:
    if use.member == _CALL:
        return f"{use.target}()"
    return f"{use.target}.{use.member}" if use.member else use.target


def _changes(use: _Use, base: Code, other: Code) -> Iterator[tuple[Change, str]]:
    was, now = base.resolve(use.target), other.resolve(use.target)
    if was is None:
        return
    if now is None:
        # A class that is gone takes its members along; one row says it.
        if not use.member:
            yield "gone", _gone(use.target, other)
    elif use.member and not isinstance(now.node, ast.ClassDef):
        return  # _made_by_code() has a row for the class
    elif use.member == _CALL or (not use.member and isinstance(was.node, Function)):
        yield from _signature(base.signature(was), other.signature(now))
    elif use.member:
        yield from _member(base.members(was)[use.member], other.members(now).get(use.member))


def _member(was: ast.AST, now: ast.AST | None) -> Iterator[tuple[Change, str]]:
    if now is None:
        yield "gone", "the class has no such member"
    elif isinstance(was, Function) and isinstance(now, Function):
        yield from _signature(parameters(was), parameters(now))


def _signature(was: list[str], now: list[str]) -> Iterator[tuple[Change, str]]:
    if was == now:
        return
    lost = [name for name in was if name not in now]
    new = [name for name in now if name not in was]
    parts = [
        f"{word} {', '.join(f'`{name}`' for name in names)}"
        for word, names in (("without", lost), ("with", new))
        if names
    ]
    yield "signature", "; ".join(parts) or "in another order"


def _gone(target: str, other: Code) -> str:
    module, _, name = target.rpartition(".")
    if not other.has_module(module):
        return f"so is its module {module}" if "." in module else "gone"
    return f"{module} has no {name}"


class _Reader:
    """Reads one file of ours against the base."""

    def __init__(self, module: str, base: Code, is_own: Callable[[str], bool]) -> None:
        self._module = module
        self._tree = base.tree(module)
        self._base = base
        self._is_own = is_own
        # What a name in this file means: imports wherever they stand.
        self._imported: dict[str, str] = {}

    def uses(self) -> Iterator[_Use]:
        yield from self._imports()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute):
                yield from self._taken_from_import(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self._named_in_string(node.value)
            elif isinstance(node, Function):
                yield from self._of_parameters(node)
            elif isinstance(node, ast.ClassDef):
                yield from self._inherited(node)
            elif isinstance(node, ast.Call):
                yield from self._called(node)

    def _theirs(self, dotted: str) -> bool:
        return dotted.startswith("sglang.") and not self._is_own(dotted)

    def _imports(self) -> Iterator[_Use]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        self._imported[alias.asname] = alias.name
                    if self._theirs(alias.name):
                        yield _Use(alias.name)
            elif isinstance(node, ast.ImportFrom):
                source = self._base.source_of(self._module, node)
                for alias in node.names:
                    dotted = f"{source}.{alias.name}"
                    self._imported[alias.asname or alias.name] = dotted
                    if self._theirs(source) or (source == "sglang" and self._theirs(dotted)):
                        yield _Use(dotted)

    def _definition(self, expression: ast.expr) -> tuple[str, Definition] | None:
        """The dotted name under which this file knows it, and what that is."""
        dotted = self._dotted(expression)
        found = self._base.resolve(dotted) if dotted else None
        return (dotted, found) if found is not None else None

    def _dotted(self, expression: ast.expr) -> str:
        if isinstance(expression, ast.Name):
            return self._imported.get(expression.id, "")
        if isinstance(expression, ast.Attribute):
            above = self._dotted(expression.value)
            return f"{above}.{expression.attr}" if above else ""
        return ""

    def _taken_from_import(self, node: ast.Attribute) -> Iterator[_Use]:
        owner = self._definition(node.value)
        if owner is None or not self._theirs(owner[1].module):
            return
        dotted, definition = owner
        if isinstance(definition.node, ast.ClassDef):
            if node.attr in self._base.members(definition):
                yield _Use(dotted, node.attr)
        elif not definition.name and self._base.find(definition.module, node.attr):
            yield _Use(f"{dotted}.{node.attr}")

    def _called(self, node: ast.Call) -> Iterator[_Use]:
        found = self._definition(node.func)
        if (
            found is not None
            and self._theirs(found[1].module)
            and isinstance(found[1].node, ast.ClassDef)
        ):
            yield _Use(found[0], _CALL)

    def _named_in_string(self, text: str) -> Iterator[_Use]:
        if not _DOTTED.fullmatch(text) or not self._theirs(text):
            return
        if self._base.resolve(text) is not None:
            yield _Use(text)
            return
        owner, _, member = text.rpartition(".")
        definition = self._base.resolve(owner)
        if definition is not None and member in self._base.members(definition):
            yield _Use(owner, member)

    def _of_parameters(self, function: Function) -> Iterator[_Use]:
        given = function.args
        typed: dict[str, tuple[str, Definition | None]] = {
            arg.arg: definition
            for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs]
            for definition in self._annotated(arg.annotation)
        }
        for node in ast.walk(function):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            dotted, definition = typed.get(node.value.id, ("", None))
            if definition is not None and node.attr in self._base.members(definition):
                yield _Use(dotted, node.attr)

    def _annotated(self, annotation: ast.expr | None) -> Iterator[tuple[str, Definition]]:
        """Upstream's class that an annotation names, also as `X | None`."""
        if isinstance(annotation, ast.BinOp):
            yield from self._annotated(annotation.left)
            yield from self._annotated(annotation.right)
        elif annotation is not None:
            found = self._definition(annotation)
            if (
                found is not None
                and self._theirs(found[1].module)
                and isinstance(found[1].node, ast.ClassDef)
            ):
                yield found

    def _inherited(self, node: ast.ClassDef) -> Iterator[_Use]:
        """What a class of ours overrides, and what it and its own bases take through self."""
        here = self._base.find(self._module, node.name)
        if here is None or here.node is not node:
            return  # a class inside of another, or of a function
        lineage = self._base.lineage(here)
        ours = [c.node for c in lineage if self._is_own(c.module)]
        theirs = [c for c in lineage if not self._is_own(c.module)]
        defined = {name for c in ours if isinstance(c, ast.ClassDef) for name in own_members(c)}
        taken = {name for c in ours for name in _taken_from_self(c)}
        for name in sorted(defined | taken):
            above = next((c for c in theirs if name in self._base.members(c)), None)
            if above is not None:
                yield _Use(above.dotted, name)


def _taken_from_self(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if not (isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)):
            continue
        if part.value.id == "self":
            yield part.attr
