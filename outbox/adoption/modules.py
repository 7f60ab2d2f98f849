"""The Python modules below some paths, and the full names of what their code names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import libcst as cst
from libcst.metadata import (
    Assignment,
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    Scope,
    ScopeProvider,
)

#: Folders whose code is generated, or is not the project's.
_LEFT_OUT = frozenset({"migrations", "node_modules", "site-packages", "__pycache__"})


class Unreadable(Exception):
    """A path does not exist, or is no Python file."""


@dataclass
class Module:
    """A module: its text, its syntax tree, and the names in it.

    Attributes:
        path: its file.
        name: its dotted name, from the highest folder with an `__init__.py` on.
        tree: its syntax tree. All nodes that the room passes around are of this tree.
    """

    path: Path
    name: str
    wrapper: MetadataWrapper

    @property
    def tree(self) -> cst.Module:
        return self.wrapper.module

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__.py` of a package."""
        return self.path.name == "__init__.py"

    @cached_property
    def lines(self) -> list[str]:
        """The lines of its text."""
        return self.tree.code.split("\n")

    @cached_property
    def _parents(self) -> Any:
        return self.wrapper.resolve(ParentNodeProvider)

    @cached_property
    def _positions(self) -> Any:
        return self.wrapper.resolve(PositionProvider)

    @cached_property
    def _scopes(self) -> Any:
        return self.wrapper.resolve(ScopeProvider)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node that contains a node, or None for the module."""
        return cast("cst.CSTNode | None", self._parents.get(node))

    def ancestors(self, node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """Yield (child, parent) from a node to the module."""
        child = node
        while (parent := self.parent(child)) is not None:
            yield child, parent
            child = parent

    def line(self, node: cst.CSTNode) -> int:
        """Return the number of the line in which a node begins."""
        return int(self._positions[node].start.line)

    def is_after(self, node: cst.CSTNode, other: cst.CSTNode) -> bool:
        """Return whether a node begins after the end of another one."""
        start, end = self._positions[node].start, self._positions[other].end
        return (int(start.line), int(start.column)) >= (int(end.line), int(end.column))

    def column(self, node: cst.CSTNode) -> int:
        """Return the column in which a node begins, from 0."""
        return int(self._positions[node].start.column)

    def scope(self, node: cst.CSTNode) -> Scope | None:
        """Return the scope in which a name of the node is looked up."""
        for one in (node, *(parent for _child, parent in self.ancestors(node))):
            found = self._scopes.get(one)
            if found is not None:
                return cast(Scope, found)
        return None

    def assignments(self, node: cst.Name) -> Sequence[Any]:
        """Return all assignments of a name that its scope finds."""
        scope = self.scope(node)
        return list(scope[node.value]) if scope is not None else []

    def full_name(self, node: cst.CSTNode) -> str:
        """Return the dotted name of an imported or global object, or "" for anything else."""
        if isinstance(node, cst.Attribute):
            owner = self.full_name(node.value)
            return f"{owner}.{node.attr.value}" if owner else ""
        if not isinstance(node, cst.Name):
            return ""
        names = {self._assigned(one, node.value) for one in self.assignments(node)}
        return names.pop() if len(names) == 1 else ""

    def _assigned(self, assignment: Any, name: str) -> str:
        node = getattr(assignment, "node", None)
        if isinstance(node, cst.Import | cst.ImportFrom):
            return self._imported(node, name)
        if isinstance(assignment, Assignment) and isinstance(assignment.scope, GlobalScope):
            return f"{self.name}.{name}"
        return ""

    def _imported(self, node: cst.Import | cst.ImportFrom, name: str) -> str:
        if isinstance(node.names, cst.ImportStar):
            return ""
        for alias in node.names:
            given = alias.evaluated_alias
            whole = alias.evaluated_name
            if isinstance(node, cst.ImportFrom):
                if (given or whole) == name:
                    return f"{self.absolute(node)}.{whole}"
            elif given == name:
                return whole
            elif given is None and whole.partition(".")[0] == name:
                return name
        return ""

    def absolute(self, node: cst.ImportFrom) -> str:
        """Return the dotted name of the module that an import names, also a relative one."""
        named = dotted(node.module) if node.module is not None else ""
        if not node.relative:
            return named
        parts = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        parts = parts[: len(parts) - len(node.relative) + 1]
        return ".".join([*parts, *([named] if named else [])])

    def global_import(self, name: str) -> str:
        """Return the full name of an object that the module imports under this name, or ""."""
        scope = self._scopes.get(self.tree)
        found = scope[name] if scope is not None else ()
        names = {self._assigned(one, name) for one in found if isinstance(one, ImportAssignment)}
        return names.pop() if len(names) == 1 else ""

    def means(self, name: str, full: str, node: cst.CSTNode | None = None) -> bool:
        """Return whether a name is free, or has only this full name, where a node stands."""
        scope = self.scope(node) if node is not None else self._scopes.get(self.tree)
        found = [one for one in scope[name] if hasattr(one, "node")] if scope is not None else []
        return all(self._assigned(one, name) == full for one in found)

    def is_assigned_once(self, name: str) -> bool:
        """Return whether the top level of the module assigns a name once."""
        scope = self._scopes.get(self.tree)
        return scope is None or len(set(scope[name])) == 1

    def code(self, node: cst.CSTNode) -> str:
        """Return the text of a node."""
        return self.tree.code_for_node(node)


def dotted(node: cst.CSTNode) -> str:
    """Return the text of a dotted name, or "" for another expression."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr.value}" if owner else ""
    return ""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the Python files of paths, each once.

    Raises:
        Unreadable: a path does not exist, or is a file of another kind.
    """
    found: dict[Path, Path] = {}  # by the real path: a link and its target are one file
    for path in paths:
        if path.is_dir():
            for one in sorted(path.rglob("*.py")):
                if one.is_file() and _is_own(one, path):  # an editor's lock is a link to nothing
                    found.setdefault(one.resolve(), one)
        elif path.is_file() and path.suffix == ".py":
            found.setdefault(path.resolve(), path)
        else:
            raise Unreadable(f"{path} is neither a folder nor a Python file. Nothing was changed.")
    return list(found.values())


def _is_own(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts[:-1]
    if _LEFT_OUT.intersection(parts) or any(part.startswith(".") for part in parts):
        return False
    folders = [root.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    return not any((folder / "pyvenv.cfg").exists() for folder in folders)


#: A file without any of these texts declares and sends no task. To analyse a file takes long.
_WORDS = (b"_task", b".task", b".delay", b"apply_async", b"on_commit", b"celery")


def may_matter(path: Path) -> bool:
    """Return whether a file may declare or send a task, or import it for others."""
    if path.name == "__init__.py":
        return True
    text = path.read_bytes()
    return any(word in text for word in _WORDS)


def read(path: Path) -> Module:
    """Parse a file.

    Raises:
        cst.ParserSyntaxError: it is no valid Python.
        SyntaxError: its encoding is unknown.
        UnicodeDecodeError: its encoding is wrong.
        RecursionError: an expression is nested too deeply.
    """
    tree = cst.parse_module(path.read_bytes())
    wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
    wrapper.resolve_many([ParentNodeProvider, PositionProvider, ScopeProvider])
    return Module(path, module_name(path), wrapper)


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file."""
    path = path.resolve()
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)
