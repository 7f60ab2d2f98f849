"""Read the imports of modules from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Calls that import by a text: the registry of models is a way around an import, too.
BY_TEXT = {"import_module", "import_string", "__import__"}
BY_LABEL = {"get_model"}


@dataclass(frozen=True)
class Import:
    """One name taken from one module of the project; `name` is empty for a module as a whole."""

    importer: str
    target: str
    name: str
    path: Path
    line: int

    def __str__(self) -> str:
        taken = f"{self.name} from {self.target}" if self.name else self.target
        return f"{self.path}:{self.line}: {self.importer} imports {taken}"


@dataclass
class Source:
    """All modules below a folder, and their imports of each other (function-level ones too)."""

    root: Path
    modules: dict[str, Path] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.modules = {_dotted(path.relative_to(self.root)): path for path in self._files()}
        for module, path in self.modules.items():
            self.imports += self._imports_of(module, path)

    def _files(self) -> Iterator[Path]:
        yield from self.root.glob("*.py")
        for folder in self.root.iterdir():
            if folder.is_dir() and not folder.name.startswith("."):
                yield from folder.rglob("*.py")

    def _imports_of(self, module: str, path: Path) -> Iterator[Import]:
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        shown = path.relative_to(self.root)
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            for dotted in _wanted(node, package):
                target, name = self._locate(dotted)
                if target and target != module:
                    yield Import(module, target, name, shown, node.lineno)  # type: ignore[attr-defined]  # _wanted's nodes have lines

    def _locate(self, dotted: str) -> tuple[str, str]:
        """Return the longest module of ours that `dotted` begins with, and the rest."""
        target, name = dotted, ""
        while target and target not in self.modules:
            target, _, last = target.rpartition(".")
            name = f"{last}.{name}".rstrip(".")
        return target, name


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _wanted(node: ast.AST, package: str) -> list[str]:
    """Return the dotted names that this node brings in, relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        origin = _absolute(node, package)
        return [f"{origin}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call):
        return _wanted_by_text(node)
    return []


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    kept = parents[: len(parents) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _wanted_by_text(call: ast.Call) -> list[str]:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    called = call.func.id if isinstance(call.func, ast.Name) else called
    texts = [
        argument.value
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    if texts and called in BY_TEXT:
        return [texts[0]]
    if texts and called in BY_LABEL:
        app, *model = ".".join(texts[:2]).split(".")
        return [".".join([app, "models", *model])]
    return []
