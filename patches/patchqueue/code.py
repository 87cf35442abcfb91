"""Find modules, names, members and signatures in sources, by their syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A name's definition: in which module, and the node; a module has its tree."""

    module: str
    name: str
    node: ast.AST

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


class Code:
    """The sources of a package. `paths`: all that it has; `read` gives the bytes of one."""

    def __init__(self, paths: Collection[str], read: Callable[[str], bytes]) -> None:
        self._read = read
        self._paths: dict[str, str] = {}
        for path in paths:
            if path.endswith(".py"):
                dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                self._paths[dotted] = path
        self._trees: dict[str, ast.Module] = {}
        self._names: dict[str, dict[str, ast.AST]] = {}
        self._folders = {
            dotted.rpartition(".")[0] for dotted in self._paths if "." in dotted
        } - set(self._paths)

    def has_module(self, module: str) -> bool:
        return module in self._paths or module in self._folders

    def tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            path = self._paths.get(module)
            self._trees[module] = ast.parse(self._read(path) if path else b"")
        return self._trees[module]

    def package(self, module: str, level: int) -> str:
        """What a relative import of this level in the module begins at."""
        is_package = self._paths.get(module, "").endswith("/__init__.py")
        parts = module.split(".")
        return ".".join(parts[: len(parts) - level + is_package])

    def source_of(self, module: str, node: ast.ImportFrom) -> str:
        """The module that a `from ... import` names."""
        if not node.level:
            return node.module or ""
        package = self.package(module, node.level)
        return f"{package}.{node.module}" if node.module else package

    def find(self, module: str, name: str, seen: tuple[str, ...] = ()) -> Definition | None:
        """The definition that `from module import name` leads to, through other imports."""
        here = f"{module}:{name}"
        if here in seen or not self.has_module(module):
            return None
        node = self._top_level(module).get(name)
        if isinstance(node, ast.ImportFrom):
            source = self.source_of(module, node)
            real = next(a.name for a in node.names if (a.asname or a.name) in (name, "*"))
            found = self.find(source, name if real == "*" else real, (*seen, here))
            return found or Definition(module, name, node)
        if isinstance(node, ast.Import):
            alias = next(a for a in node.names if (a.asname or a.name.split(".")[0]) == name)
            return self.resolve(alias.name if alias.asname else name)
        if node is not None:
            return Definition(module, name, node)
        if self.has_module(f"{module}.{name}"):
            return Definition(f"{module}.{name}", "", self.tree(f"{module}.{name}"))
        return self._find_starred(module, name, (*seen, here))

    def resolve(self, dotted: str) -> Definition | None:
        """The definition of a dotted name: a module, or what stands at a module's top level."""
        if self.has_module(dotted):
            return Definition(dotted, "", self.tree(dotted))
        module, _, name = dotted.rpartition(".")
        return self.find(module, name) if module else None

    def lineage(self, of: Definition) -> list[Definition]:
        """The class and those it inherits from, as far as their sources are here."""
        found = [of]
        assert isinstance(of.node, ast.ClassDef)
        for base in of.node.bases:
            above = self.evaluate(of.module, base)
            if above is not None and isinstance(above.node, ast.ClassDef):
                found += [c for c in self.lineage(above) if c not in found]
        return found

    def evaluate(self, module: str, expression: ast.expr) -> Definition | None:
        """What an expression of names and dots means at a module's top level."""
        if isinstance(expression, ast.Subscript):
            return self.evaluate(module, expression.value)
        if isinstance(expression, ast.Name):
            return self.find(module, expression.id)
        if isinstance(expression, ast.Attribute):
            owner = self.evaluate(module, expression.value)
            if owner is not None and not owner.name:
                return self.find(owner.module, expression.attr)
        return None

    def members(self, of: Definition) -> dict[str, ast.AST]:
        """Methods, class attributes, and what methods assign to self; inherited ones too."""
        if not isinstance(of.node, ast.ClassDef):
            return {}
        found: dict[str, ast.AST] = {}
        for definition in reversed(self.lineage(of)):
            assert isinstance(definition.node, ast.ClassDef)
            found.update(own_members(definition.node))
        return found

    def signature(self, of: Definition) -> list[str]:
        """How it is called, by parameter; empty for what is no function and has no constructor."""
        if isinstance(of.node, Function):
            return parameters(of.node)
        if isinstance(of.node, ast.ClassDef):
            constructor = self.members(of).get("__init__")
            if isinstance(constructor, Function):
                return parameters(constructor)
            return [f"{name}{'=' * optional}" for name, optional in self._fields(of)]
        return []

    def _fields(self, of: Definition) -> Iterator[tuple[str, bool]]:
        for definition in reversed(self.lineage(of)):
            assert isinstance(definition.node, ast.ClassDef)
            for node in definition.node.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    yield node.target.id, node.value is not None

    def _top_level(self, module: str) -> dict[str, ast.AST]:
        if module not in self._names:
            self._names[module] = dict(_bindings(self.tree(module).body))
        return self._names[module]

    def _find_starred(self, module: str, name: str, seen: tuple[str, ...]) -> Definition | None:
        for node in self.tree(module).body:
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found = self.find(self.source_of(module, node), name, seen)
                if found is not None:
                    return found
        return None


def own_members(node: ast.ClassDef) -> dict[str, ast.AST]:
    """What the class itself defines, and what its methods assign to self."""
    found: dict[str, ast.AST] = {}
    for method in node.body:
        if isinstance(method, Function):
            found.update(_assigned_to_self(method))
    found.update(_bindings(node.body))
    return found


def parameters(node: Function) -> list[str]:
    """The parameters without types; `=` marks what may be left out."""
    given = node.args
    ordinary = [*given.posonlyargs, *given.args]
    required = len(ordinary) - len(given.defaults)
    shown = [arg.arg + "=" * (at >= required) for at, arg in enumerate(ordinary)]
    if given.posonlyargs:
        shown.insert(len(given.posonlyargs), "/")
    if given.vararg:
        shown.append(f"*{given.vararg.arg}")
    elif given.kwonlyargs:
        shown.append("*")
    shown += [
        arg.arg + "=" * (default is not None)
        for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg:
        shown.append(f"**{given.kwarg.arg}")
    return shown


def _assigned_to_self(method: Function) -> Iterator[tuple[str, ast.AST]]:
    first = method.args.args[0].arg if method.args.args else ""
    for node in ast.walk(method):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == first
        ):
            yield node.attr, node


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Names that these statements bind, those in conditions and `try` too."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], node
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    yield alias.asname or alias.name, node
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        yield part.id, node
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from _bindings(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _bindings(handler.body)
