"""Extract the messages of Python modules and templates.

Babel reads Python. Django's `templatize` turns a template into calls of Python, as for
`makemessages`.
"""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.extract import DEFAULT_KEYWORDS, extract
from django.utils.translation.template import templatize

KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
SUFFIXES = (".py", ".html", ".txt")
#: Folders whose Python files have no text for users.
SKIPPED = {"migrations", "locale", "static", "__pycache__", "node_modules"}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A message in a file: its id, or its singular and plural, and its context."""

    file: str
    text: str | tuple[str, ...]
    context: str | None = None


def messages_of(path: Path, name: str) -> Iterator[Found]:
    """Return the messages of one file, under the name that the catalogue shows."""
    source = path.read_text()
    if path.suffix != ".py":
        # Babel's tokenizer minds the indentation, which means nothing in a template.
        lines = templatize(source, origin=name).splitlines()
        source = "\n".join(line.strip() for line in lines)
    for _line, text, _comments, context in extract("python", io.BytesIO(source.encode()), KEYWORDS):
        yield Found(file=name, text=text, context=context)
    if path.suffix == ".py" and "cli" in path.parts:
        for forms in counted(source):
            yield Found(file=name, text=forms, context="count")
        yield from (Found(file=name, text=text) for text in subcommands(source))


def counted(source: str) -> Iterator[tuple[str, str]]:
    """Return the singular and plural of each `count(number, noun, nouns)` of a command."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "count":
            nouns = [ast.literal_eval(one) for one in node.args[1:]]
            if nouns:
                one, many = nouns[0], nouns[1] if len(nouns) > 1 else f"{nouns[0]}s"
                yield f"%(number)s {one}", f"%(number)s {many}"


def subcommands(source: str) -> Iterator[str]:
    """Return the help of each subcommand: the first line of its class's docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node)):
            methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            if {"add_arguments", "run"} <= methods and "Protocol" not in ast.dump(node):
                yield text.splitlines()[0]


def app_folders(top: Path) -> list[Path]:
    """Return a folder and those below it that have an `AppConfig` in `apps.py`."""
    files = sorted(top.rglob("apps.py"))
    return [path.parent for path in files if "AppConfig" in path.read_text()]


def files_of(folder: Path) -> list[Path]:
    """Return the files of an app that may contain messages, without apps below it."""
    nested = [one for one in app_folders(folder) if one != folder]
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES
        and not SKIPPED & set(path.relative_to(folder).parts)
        and (path.suffix == ".py" or "templates" in path.parts)
        and not any(one in path.parents for one in nested)
    ]
