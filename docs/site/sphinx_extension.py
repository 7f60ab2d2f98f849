"""A Sphinx extension: navigation, docstrings, and links to files that the site does not contain."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import contents
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

#: The page whose headings name modules. Each shows the names of its list, or of `__all__`.
NAMES = "reference/docstrings"
_ROOT = contents.DOCS.parent

_MODULE = re.compile(r"^## `([\w.]+)`$", re.MULTILINE)
_NAME = re.compile(r"^\* `(\w+)`\n", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the parts, for Sphinx."""
    app.add_config_value("repository_url", "", "env")
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_docstrings)
    # Before Sphinx copies the targets of such links into the site.
    app.connect("doctree-read", resolve_repository_links, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the navigation to the first page."""
    if page == app.config.root_doc:
        source[0] += "\n\n" + "\n\n".join(one.toctree() for one in contents.chapters())


def add_docstrings(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add signatures and docstrings to the sections of the page of names."""
    if page != NAMES:
        return
    text, *parts = _MODULE.split(source[0])
    for module, section in zip(parts[::2], parts[1::2], strict=True):
        names = _NAME.findall(section) or import_module(module).__all__
        documented = "\n".join(_directive(module, name) for name in names)
        text += f"## `{module}`{_NAME.sub('', section)}\n```{{eval-rst}}\n{documented}\n```\n\n"
    source[0] = text


def _directive(module: str, name: str) -> str:
    """Return the directive of autodoc for an object, by its kind."""
    found = getattr(import_module(module), name)
    if isinstance(found, type):
        members = _members(found)
        shown = f"   :members: {', '.join(members)}\n" if members else ""
        return f".. autoclass:: {module}.{name}\n{shown}"
    if callable(found) and hasattr(found, "__name__"):
        return f".. autofunction:: {module}.{name}\n"
    return f".. autodata:: {module}.{name}\n   :no-value:\n"


def _members(kind: type) -> list[str]:
    """Return the public names in a class's own body.

    A library may set further attributes on it, whose docstrings have that library's markup.
    """
    declared = inspect.get_annotations(kind)
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return [one for one, value in public.items() if one in declared or _is_function(value)]


def _is_function(value: object) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


def resolve_repository_links(app: Sphinx, document: nodes.document) -> None:
    """Link to a file that the site does not contain by `repository_url`, or show its path."""
    for link, path in list(_links(app, document)):
        name = path.relative_to(_ROOT).as_posix()
        if base := app.config.repository_url:
            link.replace_self(nodes.reference("", "", *link.children, refuri=base + name))
        else:
            path_shown = [nodes.Text(" ("), nodes.literal("", name), nodes.Text(")")]
            link.replace_self([*link.children, *path_shown])


def _links(app: Sphinx, document: nodes.document) -> Iterator[tuple[nodes.Element, Path]]:
    """Yield each link to a file that the site does not contain, with its path."""
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for link in document.findall(addnodes.download_reference):
        path = Path(os.path.normpath(folder / link["reftarget"]))
        if not path.is_relative_to(contents.DOCS):
            yield link, path
    for link in document.findall(addnodes.pending_xref):
        if link.get("refdomain") == "doc" and link["reftarget"] not in app.env.found_docs:
            yield link, Path(os.path.normpath(contents.DOCS / f"{link['reftarget']}.md"))
